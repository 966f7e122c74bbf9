/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* room.h - whether one more message of a device may be under way. */
#ifndef EPROXY_ADMIT_ROOM_H
#define EPROXY_ADMIT_ROOM_H

#include "../pure/conn.h"
#include "../pure/ids.h"
#include "../mech/entries.h"

/*
 * XDP redirects to a veth end in a ring of 256 frames; what does not fit is
 * lost, and comes again only after the device's retransmission timeout. So
 * many messages of one client may be under way that way.
 */
#define XDP_OPEN_MAX 4

/*
 * Most grafts of a client that may be open. What is parked is done: there are never more grafts than
 * twice as many and one, so that there is always room for one that is done.
 */
#define OPEN_MAX (TURNS_MAX / 2 - 2)

/* Whether the device has all messages in flight that it may have, or no graft is free. */
static __always_inline bool device_full(const struct conn *c, const struct device *d)
{
	return c->in_flight >= d->inflight_max || ledger_full(&c->rx, LEDGER_RING);
}

/* Tables that are tried for a connection that needs one: with fewer than that taken it finds one in any case. */
#define TABLE_TRIES 8

/* A table that is this connection's if it takes it, marked as taken; NULL: there is none left where it may look. */
static __always_inline struct id_table *table_claim(__u32 conn)
{
	struct id_table *found = NULL;

	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < TABLE_TRIES; i++)
	{
		__u32 number = ((conn + i) & (IDS_TABLES - 1)) + 1;
		struct id_table *t = bpf_map_lookup_elem(&id_tables, &number);

		if (t && !*(volatile __u32 *)&t->taken && !__sync_fetch_and_or(&t->taken, 1)) {
			t->number = number;
			found = t;
			break;
		}
	}
	return found;
}

/*
 * Whether one more QoS 1 message of the connection, with this packet identifier, can be entered; gets the connection
 * a table if that is what it needs. The take finds out under the lock whether it is still so. A function of
 * its own, so that the verifier follows it once.
 */
__attribute__((noinline)) int device_id_room(__u32 conn, __u32 gen, __u32 id)
{
	struct device *d = device_entry(conn);
	struct conn *c = conn_entry(conn);
	struct id_table *t;
	bool got = false;

	if (!d || !c)
		return 0;
	if (ids_room(&d->ids, device_table(d), id))
		return 1;
	if (d->ids.outside || d->ids.table)
		return 0;
	t = table_claim(conn);
	if (!t)
		return 0;
	bpf_spin_lock(&c->lock);
	if (c->gen == gen)
		got = ids_take_table(&d->ids, t);
	bpf_spin_unlock(&c->lock);
	if (!got)
		__sync_fetch_and_and(&t->taken, 0);
	return got;
}

/*
 * Whether userspace has done with all of the connection's stream that was passed to it, or stands in front in the lines of what it has not: then
 * what comes next is the next one of its line, too. What is next stays that until it is taken, or more is passed (conn_take). A function of its own, so that the
 * verifier follows it once, and messages of other routes do not pay for it.
 */
__attribute__((noinline)) int device_clear(__u32 conn)
{
	struct conn *c = conn_entry(conn);
	bool clear;

	if (!c)
		return 0;
	bpf_spin_lock(&c->lock);
	clear = (c->flags & CONN_CLEAR) && !conn_hole(c) && ledger_strip(&c->rx, c->rx_nxt) == c->rx_clear;
	bpf_spin_unlock(&c->lock);
	return clear;
}

/*
 * While an older message is open none behind it settles; neighbours that are
 * done can share one graft. Returns whether there is room now.
 */
static __always_inline bool device_make_room(struct conn *c, const struct device *d)
{
	bool room;

	bpf_spin_lock(&c->lock);
	ledger_compact(&c->rx);
	room = !device_full(c, d);
	bpf_spin_unlock(&c->lock);
	return room;
}

#endif
