/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* slot.h - claiming and releasing idle connections to pods. */
#ifndef EPROXY_SLOT_H
#define EPROXY_SLOT_H

#include "scratch.h"

#define TCP_ESTABLISHED 1

static __always_inline __u32 popcount64(__u64 x)
{
	x -= (x >> 1) & 0x5555555555555555ull;
	x = (x & 0x3333333333333333ull) + ((x >> 2) & 0x3333333333333333ull);
	x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0full;
	return (x * ONES) >> 56;
}

/* One of two random pods of the function: the one with more idle slots. */
static __always_inline struct pod *pod_choose(const struct function *fn)
{
	__u32 n = fn->pod_count, r, a, b;
	struct pod *pa, *pb;

	if (n == 1) {
		a = fn->pods[0];
		return bpf_map_lookup_elem(&pods, &a);
	}
	if (!n || n > PODS_PER_FUNCTION)
		return NULL;
	r = bpf_get_prandom_u32();
	a = ((r & 0xffff) * n) >> 16;
	b = a + 1 + (((r >> 16) * (n - 1)) >> 16);
	if (b >= n)
		b -= n;
	opaque(a);
	opaque(b);
	if (a >= PODS_PER_FUNCTION || b >= PODS_PER_FUNCTION)
		return NULL;
	a = fn->pods[a];
	b = fn->pods[b];
	pa = bpf_map_lookup_elem(&pods, &a);
	pb = bpf_map_lookup_elem(&pods, &b);
	if (!pa || !pb)
		return pa ? pa : pb;
	return popcount64(pb->idle) > popcount64(pa->idle) ? pb : pa;
}

/* Claims the pod's lowest idle slot (the hottest). Returns NO_INDEX if there is none. */
static __always_inline __u32 slot_claim(struct pod *pod)
{
	for (int i = 0; i < 4; i++) {
		__u64 idle = *(volatile __u64 *)&pod->idle;
		__u64 bit = idle & -idle;

		if (!idle)
			return NO_INDEX;
		if (__sync_fetch_and_and(&pod->idle, ~bit) & bit)
			return pod->first_slot + popcount64(bit - 1);
	}
	return NO_INDEX;
}

/* Makes the slot claimable again. */
static __always_inline void slot_set_idle(__u32 index, const struct slot *slot)
{
	__u32 key = slot->pod;
	struct pod *pod = bpf_map_lookup_elem(&pods, &key);

	if (pod)
		__sync_fetch_and_or(&pod->idle, 1ull << ((index - pod->first_slot) & 63));
}

/* Whether the slot's socket is in the socket map and ESTABLISHED. */
static __always_inline bool slot_alive(__u32 index)
{
	struct bpf_sock *sk = bpf_map_lookup_elem(&pod_socks, &index);
	bool ok;

	if (!sk)
		return false;
	ok = sk->state == TCP_ESTABLISHED;
	bpf_sk_release(sk);
	return ok;
}

static __always_inline void event_simple(enum event_kind kind, __u32 conn, __u32 gen)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return;
	e->kind = kind;
	e->conn = conn;
	e->gen = gen;
	e->packet_id = 0;
	e->qos = 0;
	e->frame_len = 0;
	e->ifindex = 0;
	e->pad = 0;
	bpf_ringbuf_submit(e, 0);
}

#endif
