/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* slot.h - claiming and releasing idle connections to pods. */
#ifndef EPROXY_SLOT_H
#define EPROXY_SLOT_H

#include "ids.h"
#include "recovery.h"
#include "scratch.h"
#include "verdict.h"

#define TCP_ESTABLISHED 1

/* How much a pod can carry now: wholly idle slots count most. */
static __always_inline __u32 pod_score(const struct pod *pod)
{
	__u64 free = ~(pod->filling | pod->reserved);

	return popcount64(pod->idle & free) * 64 + popcount64(pod->room & free);
}

/* One of two random pods of the function: the one that can carry more. */
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
	return pod_score(pb) > pod_score(pa) ? pb : pa;
}

/*
 * Whether the slot can still take a request, for whoever holds its bit in
 * `filling`: between the look at it and the claim somebody else may have made
 * a request for it, in the buffer that would be written to now.
 */
static __always_inline bool slot_claimable(const struct pod *pod, __u64 bit)
{
	return (*(volatile __u64 *)&pod->idle | *(volatile __u64 *)&pod->room) & bit;
}

/*
 * Claims a slot for one more request: the lowest idle one (the hottest), else
 * one that has room, the same for the same device while it has. The caller
 * holds its bit in `filling` until slot_release; nobody else makes a request
 * for it meanwhile. Returns NO_INDEX if there is none.
 */
static __always_inline __u32 slot_claim(struct pod *pod, __u32 device)
{
	for (int i = 0; i < 4; i++) {
		__u64 held = *(volatile __u64 *)&pod->filling | *(volatile __u64 *)&pod->reserved;
		__u64 free = *(volatile __u64 *)&pod->idle & ~held, high, bit;

		if (!free) {
			free = *(volatile __u64 *)&pod->room & ~held;
			high = free & ~0ull << (device & 63);
			if (high)
				free = high;
		}
		if (!free)
			return NO_INDEX;
		bit = free & -free;
		if (__sync_fetch_and_or(&pod->filling, bit) & bit)
			continue;
		if (slot_claimable(pod, bit))
			return pod->first_slot + popcount64(bit - 1);
		__sync_fetch_and_and(&pod->filling, ~bit);
	}
	return NO_INDEX;
}

/* A message is queued behind others at a slot if it is likely to wait no longer than this, nanoseconds. */
#define QUEUE_NS 50000000ull

/* Accounts for n responses that came just now: the smoothed time per response, as TCP smooths its SRTT (RFC 6298). */
static __always_inline void slot_served(struct slot *slot, __u64 began_ns, __u64 now_ns, __u32 n)
{
	__u64 one;

	if (began_ns < slot->responded_ns)
		began_ns = slot->responded_ns;
	one = (__s64)(now_ns - began_ns) < 0 ? 0 : (now_ns - began_ns) / n; /* another processor's clock may be ahead */
	if (one > 1u << 31)
		one = 1u << 31;
	slot->service_ns = slot->service_ns ? slot->service_ns - slot->service_ns / 8 + (__u32)one / 8 : (__u32)one;
	slot->responded_ns = now_ns;
}

/*
 * Claims the slot of this device's latest message, if it belongs to the
 * function, has room, and its pod answers fast: the device's messages stay in
 * order, and the pod reads several at once. A slow one had better get them on
 * idle connections. Returns the pod, or NULL; as slot_claim otherwise.
 */
static __always_inline struct pod *slot_follow(const struct conn *c, const struct device *d, __u32 function,
					       __u32 *index)
{
	__u32 key = *(volatile __u32 *)&d->last_slot, pod_key;
	struct slot *slot;
	struct pod *pod;
	__u64 bit;

	if (!*(volatile __u16 *)&c->in_flight || key >= knob_slots)
		return NULL;
	slot = slot_entry(key);
	if (!slot || slot->depth < 2 || (__u64)(slot->tail - slot->head) * slot->service_ns > QUEUE_NS)
		return NULL;
	pod_key = slot->pod;
	pod = bpf_map_lookup_elem(&pods, &pod_key);
	if (!pod || pod->function != function || !pod->up)
		return NULL;
	bit = 1ull << ((key - pod->first_slot) & 63);
	if (!((pod->idle | pod->room) & ~pod->filling & ~pod->reserved & bit) ||
	    (__sync_fetch_and_or(&pod->filling, bit) & bit))
		return NULL;
	if (!slot_claimable(pod, bit)) {
		__sync_fetch_and_and(&pod->filling, ~bit);
		return NULL;
	}
	*index = key;
	return pod;
}

static __always_inline __u64 slot_bit(const struct pod *pod, __u32 index)
{
	return 1ull << ((index - pod->first_slot) & 63);
}

/* Milliseconds after which what an ICMP error said of a path is forgotten (RFC 8201 section 4; Linux' mtu_expires). */
#define PATH_MTU_MS 600000

/* Bytes of one segment to the pod on this slot's connection. */
static __always_inline __u32 slot_mss(const struct pod *pod, const struct conn *sc, __u32 now_ms)
{
	__u32 mss = *(volatile __u32 *)&pod->path_mss;

	return mss && mss < sc->tx_mss && now_ms - *(volatile __u32 *)&pod->path_ms < PATH_MTU_MS ? mss : sc->tx_mss;
}

/* Ends what slot_claim began. */
static __always_inline void slot_release(struct pod *pod, __u32 index)
{
	__sync_fetch_and_and(&pod->filling, ~slot_bit(pod, index));
}

/* Sets or clears a bit of a word that others change too; does not touch the cache line where it is so already. */
static __always_inline void word_set(__u64 *word, __u64 bit, bool on)
{
	if (!(*(volatile __u64 *)word & bit) == !on)
		return;
	if (on)
		__sync_fetch_and_or(word, bit);
	else
		__sync_fetch_and_and(word, ~bit);
}

static __always_inline __u32 slot_in_flight(const struct slot *slot)
{
	return slot->tail - slot->head;
}

/* Lets the pod's words follow the slot's state. Under the slot's lock, after every change. */
static __always_inline void slot_show(struct pod *pod, __u32 index, const struct slot *slot)
{
	bool flowing = slot->state == SLOT_BUSY || slot->state == SLOT_RESPONDING;
	__u64 bit = slot_bit(pod, index);

	word_set(&pod->idle, bit, slot->state == SLOT_IDLE);
	word_set(&pod->room, bit, flowing && !slot->close_after && slot_in_flight(slot) < slot->depth);
}

static __always_inline struct message *slot_message(struct slot *slot, __u32 number)
{
	return &slot->messages[number & (knob_pipeline - 1) & (PIPELINE_MAX - 1)];
}

/*
 * Whether the oldest message of a slot that has some in flight has waited too
 * long: for its response, or for the pod's TCP to acknowledge it.
 */
static __always_inline bool slot_overdue(struct slot *slot, const struct pod *pod, __u32 now_ms)
{
	struct message *m = slot_message(slot, slot->head);
	__s32 age = now_ms - (__u32)(m->taken_ns / 1000000); /* below 0: taken after the caller looked at the clock */

	return age > (__s32)pod->timeout_ms || (!m->acked && slot->state == SLOT_BUSY && age > (__s32)pod->unacked_ms);
}

/*
 * The number of the next request, for whoever holds the slot's bit in
 * `filling`. An idle slot begins anew with its first buffer: that one is in the
 * cache. One that is empty for another reason may not: userspace still reads
 * the request that it took over.
 */
static __always_inline __u32 slot_next(const struct slot *slot)
{
	__u32 tail = *(volatile __u32 *)&slot->tail;

	if (*(volatile __u32 *)&slot->head != tail || *(volatile __u32 *)&slot->state != SLOT_IDLE)
		return tail;
	return (tail + knob_pipeline - 1) & ~(knob_pipeline - 1);
}

static __always_inline struct request *request_buffer(__u32 index, __u32 number)
{
	return chunk_entry(requests, struct request, index * knob_pipeline + (number & (knob_pipeline - 1)));
}

/*
 * Whether request `number` is still in flight: what was just copied from its
 * buffer is this request's, for nobody refills the buffer before.
 */
static __always_inline bool request_live(const struct conn *sc, const struct slot *slot, __u32 gen, __u32 number)
{
	return *(volatile __u32 *)&sc->gen == gen && (__s32)(*(volatile __u32 *)&slot->head - number) <= 0;
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

/* Notifies userspace of what is particular to a connection's generation; `hook` counts a failure. */
static __always_inline void event_simple(enum hook hook, enum event_kind kind, __u32 conn, __u32 gen)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		count(hook, REASON_EVENT_LOST);
		return;
	}
	e->kind = kind;
	e->conn = conn;
	e->gen = gen;
	e->packet_id = 0;
	e->qos = 0;
	e->frame_len = 0;
	e->ifindex = 0;
	e->hold = HOLD_NONE;
	bpf_ringbuf_submit(e, 0);
}

#endif
