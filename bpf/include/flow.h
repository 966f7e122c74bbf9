/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* flow.h - from a packet's 4-tuple to its connection, for every packet of every hook. */
#ifndef EPROXY_FLOW_H
#define EPROXY_FLOW_H

#include "scratch.h"

/* Mixes a 4-tuple (the multipliers are those of SplitMix64). Who makes collisions on purpose gains the slower look-up. */
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
 * The connection of this 4-tuple and its conn index, or NULL. It may be changed
 * or reused at any moment: the caller checks again under its lock.
 *
 * The flows map decides, but looking there costs three cache lines one after
 * another. A hint names the entry that it gave last; the entry's own 4-tuple,
 * which is needed anyway, says whether that holds. Userspace leaves at most one
 * live entry with a 4-tuple.
 */
static __always_inline struct conn *flow_find(const struct tuple *t, __u32 *index)
{
	__u64 hash = flow_hash(t), *hint, value;
	__u32 key = hash & (HINTS - 1), *found;
	struct conn *c;

	hint = bpf_map_lookup_elem(&hints, &key);
	if (!hint)
		return NULL;
	value = *(volatile __u64 *)hint;
	*index = value;
	if (value >> 32 == hash >> 32) {
		c = bpf_map_lookup_elem(&conns, index);
		if (c && tuple_same(&c->tuple, t) && conn_live(c))
			return c;
	}
	found = bpf_map_lookup_elem(&flows, t);
	if (!found)
		return NULL;
	*index = *found;
	c = bpf_map_lookup_elem(&conns, index);
	if (c && conn_live(c))
		*(volatile __u64 *)hint = hash >> 32 << 32 | *index;
	return c;
}

#endif
