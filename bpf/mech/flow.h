/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* flow.h - from a packet's 4-tuple to its connection, for every packet of every hook. */
#ifndef EPROXY_MECH_FLOW_H
#define EPROXY_MECH_FLOW_H

#include "entries.h"

/* Mixes a 4-tuple (the multipliers are those of SplitMix64). Who makes collisions on purpose makes look-ups slower, not wrong. */
static __always_inline __u64 flow_hash(const struct tuple *t)
{
	__u64 x = (__u64)t->remote[2] << 32 | t->remote[3];

	x ^= (__u64)t->local[3] << 32 | (__u32)t->local_port << 16 | t->remote_port;
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static __always_inline bool tuple_same(const struct tuple *a, const struct tuple *b)
{
	const __u32 *x = (const __u32 *)a, *y = (const __u32 *)b;
	__u32 differ = 0;

	for (int i = 0; i < (int)(sizeof(*a) / 4); i++)
		differ |= x[i] ^ y[i];
	return !differ;
}

/*
 * The conn index of this 4-tuple, or NO_INDEX. The entry may be changed or
 * reused at any moment: the caller checks again under its lock.
 *
 * The flows map decides, but looking there costs three cache lines one after
 * another. A hint names the entry that it gave last; the entry's own 4-tuple,
 * which is needed anyway, says whether that holds. Where another entry has the
 * 4-tuple by now, this one is no longer open: a SYN-ACK ended it, or the RST of
 * the socket whose port is in use again. A function of its own, so that the
 * verifier follows it once.
 */
__attribute__((noinline)) int flow_index(struct tuple *t)
{
	__u64 hash, *hint, value;
	__u32 key, index, *found;
	struct conn *c;

	if (!t)
		return NO_INDEX;
	hash = flow_hash(t);
	key = hash & (knob_hints - 1);
	hint = bpf_map_lookup_elem(&hints, &key);
	if (!hint)
		return NO_INDEX;
	value = *(volatile __u64 *)hint;
	index = value;
	if (value >> 32 == hash >> 32) {
		c = conn_entry(index);
		if (c && tuple_same(&c->tuple, t) && c->state == CONN_OPEN)
			return index;
	}
	found = bpf_map_lookup_elem(&flows, t);
	if (!found)
		return NO_INDEX;
	value = hash >> 32 << 32 | *found;
	*(volatile __u64 *)hint = value;
	return value;
}

/* The connection of this 4-tuple with its conn index, or NULL. */
static __always_inline struct conn *flow_find(struct tuple *t, __u32 *index)
{
	*index = flow_index(t);
	return conn_entry(*index);
}

#endif
