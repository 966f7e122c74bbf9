/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* claim.h - a slot is reserved for one more request. */
#ifndef EPROXY_UPSTREAM_CLAIM_H
#define EPROXY_UPSTREAM_CLAIM_H

#include "slot.h"

/* Ends what slot_try began. */
static __always_inline void slot_drop(struct pod *pod, __u64 bit)
{
	__u64 old = __sync_fetch_and_and(&pod->filling, ~bit);

	opaque(old); /* what uses its result is a full barrier (pod_full) */
}

/* What came of trying to get hold of a slot. */
enum slot_hold {
	SLOT_HELD, /* its bit in `filling` is the caller's */
	SLOT_LOST, /* somebody else has it, or has made a request for it, in the buffer that would be written to now */
	SLOT_FULL, /* the pod has no place for it */
};

/* Tries to get hold of a slot that can take a request. One that has some in flight has its place already. */
static __always_inline enum slot_hold slot_try(struct pod *pod, __u64 bit, __u32 qos)
{
	__u64 filling = __sync_fetch_and_or(&pod->filling, bit);
	bool full;

	if (filling & bit)
		return SLOT_LOST;
	full = !(*(volatile __u64 *)&pod->busy & bit) && pod_full(pod, filling | bit);
	if (!full && (*(volatile __u64 *)&pod->idle | pod_more(pod, qos)) & bit) {
		pod_paid(pod);
		return SLOT_HELD;
	}
	slot_drop(pod, bit);
	return full ? SLOT_FULL : SLOT_LOST;
}

/*
 * The bit from which on a message looks for one of the slots that have room: the same for the same origin, but any of
 * them where the pod is far (slot_follow).
 */
static __always_inline __u32 slot_from(const struct pod *pod, __u32 origin, __u64 room)
{
	const struct conn *sc = conn_entry(pod->first_slot);

	if (!sc || !recovery_far(sc))
		return origin & 63;
	return (bpf_get_prandom_u32() & 0xffff) * popcount64(room) >> 16;
}

/*
 * Claims a slot for one more request: the lowest idle one (the hottest), else
 * one that has room, the same for the same origin while it has, else, with QoS 1,
 * the one that tries how many requests the pod can do with. The caller
 * holds its bit in `filling` until slot_release; nobody else makes a request
 * for it meanwhile. Returns NO_INDEX if there is none. Where no idle one is left
 * userspace is asked for more. The slots whose bits are in `not` are left out.
 */
static __always_inline __u32 slot_claim(enum hook hook, struct pod *pod, __u32 origin, __u32 qos, __u64 not)
{
	__u64 beyond = pod_beyond(pod) | not;
	__u32 index = NO_INDEX;
	bool full = false;

	for (int i = 0; i < 4; i++) {
		__u64 filling = *(volatile __u64 *)&pod->filling;
		__u64 idle = *(volatile __u64 *)&pod->idle & ~filling & ~beyond, high, bit;
		__u64 held = filling | beyond | pod_reserved(pod), free = full ? 0 : idle & ~held;
		enum slot_hold got;

		if (!free) {
			if (!idle)
				pod_ask(hook, pod);
			free = *(volatile __u64 *)&pod->room & ~held;
			if (!free)
				free = pod_more(pod, qos) & ~held;
			high = free & ~0ull << (slot_from(pod, origin, free) & 63);
			if (high)
				free = high;
		}
		if (!free)
			break;
		bit = free & -free;
		got = slot_try(pod, bit, qos);
		if (got == SLOT_HELD) {
			index = pod->first_slot + (popcount64(bit - 1) << knob_pod_shift);
			break;
		}
		full = got == SLOT_FULL;
	}
	return index;
}

/* A message follows its origin's last one to a slot if it is likely to wait no longer than this there, nanoseconds. */
#define QUEUE_NS 50000000ull

/*
 * Claims this slot, which an origin's latest message was given to, if it belongs to the
 * function, has room, and its pod answers fast: the origin's messages stay in
 * order, and the pod reads several at once. A slow one had better get them on
 * idle connections, and so does one whose depth is found out, as long as it has
 * any, and one that is far on any other one: what gets lost or comes late on the way holds up all behind it, and the
 * pod's TCP sends few responses of one connection before they are acknowledged. Returns the pod, or NULL; as slot_claim otherwise.
 */
static __always_inline struct pod *slot_follow(__u32 key, __u32 function, __u32 qos, __u32 *index)
{
	__u32 pod_key;
	const struct conn *sc;
	struct slot *slot;
	struct pod *pod;
	__u64 bit, free, others;

	if (key >= knob_slots)
		return NULL;
	slot = slot_entry(key);
	sc = conn_entry(key);
	if (!slot || !sc || (__u64)(slot->tail - slot->head) * slot->service_ns > QUEUE_NS)
		return NULL;
	pod_key = slot->pod;
	pod = bpf_map_lookup_elem(&pods, &pod_key);
	if (!pod || pod->function != function || pod->up != POD_UP || pod->depth < 2)
		return NULL;
	bit = slot_bit(pod, key);
	free = ~(pod->filling | pod_reserved(pod) | pod_beyond(pod));
	others = pod->wait_ns ? pod->idle : recovery_far(sc) ? pod->idle | pod->room : 0;
	if (others & free & ~bit)
		return NULL;
	if (!((pod->idle | pod_more(pod, qos)) & free & bit) || slot_try(pod, bit, qos) != SLOT_HELD)
		return NULL;
	*index = key;
	return pod;
}

/* Ends what slot_claim began. */
static __always_inline void slot_release(struct pod *pod, __u32 index)
{
	slot_drop(pod, slot_bit(pod, index));
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

#endif
