/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * ids.h - the packet identifiers of a client's QoS 1 messages that are not
 * acknowledged, of both paths. No kernel context: compiles natively, tested
 * against a model in bpf/native.
 *
 * A message *holds* its identifier: its hold names an entry and the entry's
 * generation, and is void as soon as another message has the identifier. Few entries are
 * the connection's own. Those of a client with more messages under way are in a table, of which there
 * are some for all: it is looked up before the lock is taken, and void under it if it is another's by then.
 */
#ifndef EPROXY_IDS_H
#define EPROXY_IDS_H

#include "common.h"

#define IDS_NONE   IDS_MAX /* in place of an entry's number */
#define IDS_LANES  4	   /* identifiers in a word */
#define IDS_LOW	   0x0001000100010001ull
#define IDS_HIGH   (IDS_LOW * 0x8000)
#define HOLD_ENTRY ((1u << HOLD_SHIFT) - 1) /* bits of a hold that are the entry's number; the generation is above */
_Static_assert(IDS_MAX < IDS_TABLE && 2 * IDS_TABLE == 1 << HOLD_SHIFT,
	       "the numbers of a table's entries are IDS_TABLE and above, and fit");

/* The block of an entry. */
static __always_inline struct id_block *ids_block(struct ids *ids, __u32 entry)
{
	return &ids->block[entry / IDS_LANES & (IDS_MAX / IDS_LANES - 1)];
}

/* Whether the table is the connection's. */
static __always_inline bool ids_has(const struct ids *ids, const struct id_table *t)
{
	return t && ids->table && ids->table == t->number;
}

/* The place of an identifier, or of an entry with this number, in a table. */
static __always_inline __u32 ids_place(__u32 n)
{
	return n & (IDS_TABLE - 1);
}

/* The number of the connection's own entry of a packet identifier, or IDS_NONE. Looks no further than the highest entry in use. */
static __always_inline __u32 ids_own(struct ids *ids, __u16 id)
{
	__u64 wanted = IDS_LOW * id;

	repeat(i, IDS_MAX / IDS_LANES) {
		__u64 x;

		if (!(afresh(ids->used) >> (i * IDS_LANES & 63)))
			break;
		/* the lowest lane that is zero is flagged, and none below it */
		x = ids_block(ids, i * IDS_LANES)->ids ^ wanted;
		x = (x - IDS_LOW) & ~x & IDS_HIGH;
		if (x)
			return (i * IDS_LANES + popcount64((x & -x) - 1) / 16) & (IDS_MAX - 1);
	}
	return IDS_NONE;
}

/* The entry of a packet identifier, 1 to 65535; IDS_NONE: it is free. */
static __always_inline __u32 ids_find(struct ids *ids, const struct id_table *t, __u16 id)
{
	__u32 n = ids_own(ids, id);

	if (n == IDS_NONE && ids_has(ids, t) && t->ids[ids_place(id)] == id)
		n = IDS_TABLE | ids_place(id);
	return n;
}

/* Whether a message with this identifier can be entered, and all that are under way have been. */
static __always_inline bool ids_room(const struct ids *ids, const struct id_table *t, __u16 id)
{
	return !ids->outside &&
	       (~ids->used || (ids_has(ids, t) && (!t->ids[ids_place(id)] || t->ids[ids_place(id)] == id)));
}

/* Gives the table to a connection that has none. Returns whether it has it now. Both are nobody else's meanwhile. */
static __always_inline bool ids_take_table(struct ids *ids, const struct id_table *t)
{
	if (ids->table)
		return false;
	ids->table = t->number;
	return true;
}

/* A free entry for an identifier, or IDS_NONE. */
static __always_inline __u32 ids_enter(struct ids *ids, struct id_table *t, __u16 id)
{
	__u32 n, shift;
	struct id_block *b;

	if (~ids->used) {
		n = popcount64((~ids->used & -~ids->used) - 1) & (IDS_MAX - 1);
		ids->used |= 1ull << n;
		shift = n % IDS_LANES * 16;
		b = ids_block(ids, n);
		b->ids = (b->ids & ~(0xffffull << shift)) | (__u64)id << shift;
		return n;
	}
	if (!ids_has(ids, t) || t->ids[ids_place(id)])
		return IDS_NONE;
	t->ids[ids_place(id)] = id;
	t->count++;
	return IDS_TABLE | ids_place(id);
}

/*
 * Enters a message; an older one with the same identifier holds it no more. Where
 * there is no room it counts as outside. Returns its hold.
 */
static __always_inline __u32 ids_hold(struct ids *ids, struct id_table *t, __u16 id)
{
	__u32 n = ids_find(ids, t, id);
	__u16 gen;

	if (n == IDS_NONE)
		n = ids_enter(ids, t, id);
	if (n == IDS_NONE) {
		ids->outside++;
		return HOLD_OUTSIDE;
	}
	if (n >= IDS_TABLE) /* of the connection, not of the table: it may have another one later */
		gen = t->gen[ids_place(n)] = ++ids->gen;
	else
		gen = ++ids_block(ids, n)->gen[n & (IDS_LANES - 1)];
	return (__u32)gen << HOLD_SHIFT | n;
}

/* Whether the message with this hold has its identifier still. */
static __always_inline bool ids_held(struct ids *ids, const struct id_table *t, __u32 hold)
{
	__u32 n = hold & HOLD_ENTRY;

	if (n >= IDS_TABLE)
		return ids_has(ids, t) && t->ids[ids_place(n)] && t->gen[ids_place(n)] == hold >> HOLD_SHIFT;
	return n < IDS_MAX && (ids->used >> n & 1) && ids_block(ids, n)->gen[n & (IDS_LANES - 1)] == hold >> HOLD_SHIFT;
}

/* A table that is empty is any connection's again. */
static __always_inline void ids_give_back(struct ids *ids, struct id_table *t)
{
	if (ids_has(ids, t) && !t->count) {
		ids->table = 0;
		__sync_fetch_and_and(&t->taken, 0); /* last: from now on it may be another's */
	}
}

/* The message with this hold is over. Returns whether its identifier was still its own: it may be acknowledged. */
static __always_inline bool ids_release(struct ids *ids, struct id_table *t, __u32 hold)
{
	__u32 n = hold & HOLD_ENTRY;

	if (hold == HOLD_OUTSIDE) {
		if (ids->outside)
			ids->outside--;
		return true;
	}
	if (!ids_held(ids, t, hold))
		return false;
	if (n >= IDS_TABLE) {
		t->ids[ids_place(n)] = 0;
		t->count--;
	} else {
		ids->used &= ~(1ull << n);
		ids_block(ids, n)->ids &= ~(0xffffull << (n % IDS_LANES * 16));
	}
	ids_give_back(ids, t);
	return true;
}

#endif
