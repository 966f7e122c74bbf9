/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* account.h - a message leaves its device's stream: the ledger of the connection, under its lock. */
#ifndef EPROXY_ADMIT_ACCOUNT_H
#define EPROXY_ADMIT_ACCOUNT_H

#include "room.h"
#include "../work/scratch.h"

/*
 * The ledger of the device: its message of len bytes is removed from its stream, unless something
 * has changed meanwhile. Under the lock of c; ids is the device's table from before. Returns the graft, which is open, or NULL; *hold is
 * the message's on its packet identifier.
 */
static __always_inline struct graft *take_account(struct conn *c, struct device *d, struct id_table *ids,
						  struct scratch *s, __u32 len, __u64 now, __u32 *hold)
{
	const struct packet *p = &s->packet;
	struct segment one = p->seg;
	struct graft *graft;
	bool taken;

	one.len = len;
	taken = c->gen == s->origin.gen && c->state == CONN_OPEN && c->tuple.remote_port == p->tuple.remote_port &&
		c->tuple.remote[3] == p->tuple.remote[3] && d->cache_version == s->admit.version &&
		!device_full(c, d) && (!s->publish.qos || ids_room(&d->ids, ids, s->publish.packet_id)) &&
		framing_at_boundary(&d->framing) && !(c->flags & (CONN_LOST | CONN_NO_TAKE | CONN_BROKEN)) &&
		conn_take(c, &one, &s->rx, now / 1000000);
	if (!taken)
		return NULL;
	graft = ledger_at(&c->rx, (__u32)c->rx.count - 1);
	if (s->publish.qos)
		*hold = ids_hold(&d->ids, ids, s->publish.packet_id);
	if (s->routed.copy)
		d->copies++;
	c->in_flight++;
	d->last_take_ns = now;
	d->taken++;
	return graft;
}

/*
 * take_account for the message in s, under the lock of c, which is taken here. It was given to slot who, or to none (NO_INDEX). done: it is
 * done as soon as it is taken. Returns enum reason.
 */
static __always_inline enum reason take_settle(struct conn *c, struct device *d, struct scratch *s, __u64 now,
					       __u32 who, bool done, __u32 *hold)
{
	struct id_table *ids = device_table(d);
	struct graft *graft;
	bool taken;

	bpf_spin_lock(&c->lock);
	graft = take_account(c, d, ids, s, s->publish.length, now, hold);
	taken = graft != NULL;
	if (graft) {
		if (done)
			ledger_removed(&c->rx);
		else
			graft->who = who;
		if (who != NO_INDEX)
			d->last_slot = who;
	}
	bpf_spin_unlock(&c->lock);
	return taken ? REASON_TAKEN : REASON_RACE;
}

#endif
