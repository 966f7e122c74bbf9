/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * ids.h - the packet identifiers of a client's QoS 1 messages that are not
 * acknowledged, of both paths. No kernel context: compiles natively, tested
 * against a model in bpf/native.
 *
 * A message *holds* its identifier: its hold names an entry and the entry's
 * generation, and is void as soon as another message has the identifier.
 */
#ifndef EPROXY_IDS_H
#define EPROXY_IDS_H

#include "common.h"

#define IDS_NONE   IDS_MAX /* in place of an entry's number */
#define IDS_LANES  4	   /* identifiers in a word */
#define IDS_LOW	   0x0001000100010001ull
#define IDS_HIGH   (IDS_LOW * 0x8000)
#define HOLD_ENTRY (IDS_MAX - 1) /* bits of a hold that are the entry's number; the generation is above */
_Static_assert(IDS_MAX == 1 << HOLD_SHIFT, "the number of an entry fits");

static __always_inline __u32 popcount64(__u64 x)
{
	x -= (x >> 1) & 0x5555555555555555ull;
	x = (x & 0x3333333333333333ull) + ((x >> 2) & 0x3333333333333333ull);
	x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0full;
	return (x * 0x0101010101010101ull) >> 56;
}

/* The block of an entry. */
static __always_inline struct id_block *ids_block(struct ids *ids, __u32 entry)
{
	return &ids->block[entry / IDS_LANES & (IDS_MAX / IDS_LANES - 1)];
}

/* The entry of a packet identifier, 1 to 65535; IDS_NONE: it is free. Looks no further than the highest entry in use. */
static __always_inline __u32 ids_find(struct ids *ids, __u16 id)
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

/* Whether one more message can be entered, and all that are under way have been. */
static __always_inline bool ids_room(const struct ids *ids)
{
	return ~ids->used && !ids->outside;
}

/*
 * Enters a message; an older one with the same identifier holds it no more. Where
 * there is no room it counts as outside. Returns its hold.
 */
static __always_inline __u32 ids_hold(struct ids *ids, __u16 id)
{
	__u32 n = ids_find(ids, id), shift;
	struct id_block *b;

	if (n == IDS_NONE) {
		if (!~ids->used) {
			ids->outside++;
			return HOLD_OUTSIDE;
		}
		n = popcount64((~ids->used & -~ids->used) - 1) & (IDS_MAX - 1);
		ids->used |= 1ull << n;
		shift = n % IDS_LANES * 16;
		b = ids_block(ids, n);
		b->ids = (b->ids & ~(0xffffull << shift)) | (__u64)id << shift;
	}
	b = ids_block(ids, n);
	return (__u32)++b->gen[n & (IDS_LANES - 1)] << HOLD_SHIFT | n;
}

/* Whether the message with this hold has its identifier still. */
static __always_inline bool ids_held(struct ids *ids, __u32 hold)
{
	__u32 n = hold & HOLD_ENTRY;

	return (ids->used >> n & 1) && ids_block(ids, n)->gen[n & (IDS_LANES - 1)] == hold >> HOLD_SHIFT;
}

/* The message with this hold is over. Returns whether its identifier was still its own: it may be acknowledged. */
static __always_inline bool ids_release(struct ids *ids, __u32 hold)
{
	__u32 n = hold & HOLD_ENTRY;

	if (hold == HOLD_OUTSIDE) {
		if (ids->outside)
			ids->outside--;
		return true;
	}
	if (!ids_held(ids, hold))
		return false;
	ids->used &= ~(1ull << n);
	ids_block(ids, n)->ids &= ~(0xffffull << (n % IDS_LANES * 16));
	return true;
}

#endif
