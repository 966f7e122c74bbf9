/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* slot.h - the state of a slot, as the words of its pod show it, and the requests in flight on it. */
#ifndef EPROXY_UPSTREAM_SLOT_H
#define EPROXY_UPSTREAM_SLOT_H

#include "../mech/load.h"
#include "../mech/socket.h"
#include "../pure/recovery.h"
#include "pod.h"

/* The bit of one of its pod's slots in the pod's words. */
static __always_inline __u64 slot_bit(const struct pod *pod, __u32 index)
{
	return 1ull << (((index - pod->first_slot) >> knob_pod_shift) & 63);
}

/* Milliseconds after which what an ICMP error said of a path is forgotten (RFC 8201 section 4; Linux' mtu_expires). */
#define PATH_MTU_MS 600000

/* Bytes of one segment to the pod on this slot's connection. */
static __always_inline __u32 slot_mss(const struct pod *pod, const struct conn *sc, __u32 now_ms)
{
	__u32 mss = *(volatile __u32 *)&pod->path_mss;

	return mss && mss < sc->tx_mss && now_ms - *(volatile __u32 *)&pod->path_ms < PATH_MTU_MS ? mss : sc->tx_mss;
}

static __always_inline __u32 slot_in_flight(const struct slot *slot)
{
	return slot->tail - slot->head;
}

static __always_inline struct message *slot_message(struct slot *slot, __u32 number)
{
	return &slot->messages[number & (knob_pipeline - 1) & (PIPELINE_MAX - 1)];
}

/* The number of the oldest request in flight that the pod has not acknowledged; tail if there is none. */
static __always_inline __u32 slot_unacked(const struct slot *slot)
{
	return (__s32)(slot->acked - slot->head) < 0 ? slot->head : slot->acked;
}

/*
 * When the oldest request that the pod has not acknowledged is due to be sent again, CLOCK_MONOTONIC
 * milliseconds; now_ms + ROUND_TRIP_MAX if nothing is. Userspace sees to a slot that it has, or that has
 * ended. Under the lock.
 */
static __always_inline __u32 slot_due(const struct conn *c, struct slot *slot, __u32 now_ms)
{
	__u32 oldest = slot_unacked(slot);

	if (c->state != CONN_OPEN || slot->state == SLOT_RETIRED || oldest == slot->tail)
		return now_ms + ROUND_TRIP_MAX;
	return recovery_due(&slot->recovery, c, slot_message(slot, oldest)->sent_ms);
}

/* Whether message `last` - 1 is in flight; last is the slot's plain or trial. */
static __always_inline bool slot_has(const struct slot *slot, __u32 last)
{
	return last - 1 - slot->head < slot_in_flight(slot);
}

/* Which messages a slot takes that has some in flight. */
enum slot_takes {
	TAKES_ROOM = 1,	  /* any */
	TAKES_DEEPER = 2, /* QoS 1 */
};

/*
 * What the slot takes. Where a pod has not shown yet that it answers several
 * requests in order only what is tried again may be lost: a trial stands behind no
 * QoS 0 message, and none behind a trial. So the slot of the trials is left to
 * QoS 1 but for when it is idle, if there are others.
 *
 * A server may answer one of the requests that it has read and forget the others. What
 * it answers to a later one would be taken for their responses. So the trials with two
 * are pairs: once the first of them is answered none is added before the second is.
 * Under the slot's lock.
 */
static __always_inline __u32 slot_takes(const struct pod *pod, __u32 index, struct slot *slot)
{
	__u32 n = slot_in_flight(slot), takes = 0;
	bool trial = *(volatile __u64 *)&pod->trial & slot_bit(pod, index);

	if ((slot->state != SLOT_BUSY && slot->state != SLOT_RESPONDING) || slot->close_after)
		return 0;
	/* how long one takes is known from the first response on */
	if (pod->wait_ns && (!slot->responded_ns || (__u64)n * slot->service_ns > pod->wait_ns))
		return 0;
	if (pod->quota && slot->count - slot->first >= pod->quota)
		return 0;
	if (trial && *(volatile __u32 *)&pod->proven < 2 && slot_message(slot, slot->head)->company != COMPANY_NONE)
		return 0;
	if (n < *(volatile __u32 *)&pod->proven && (!trial || (pod->concurrency == 1 && !slot_has(slot, slot->trial))))
		takes = TAKES_ROOM;
	if (trial && n < *(volatile __u32 *)&pod->depth && n < PIPELINE_MAX && !slot_has(slot, slot->plain))
		takes |= TAKES_DEEPER;
	opaque(takes); /* the verifier need not follow each case */
	return takes;
}

/*
 * Lets the pod's words follow the slot's state. Under the slot's lock, after every
 * change; pod_wake follows without it where a place may have become free.
 */
static __always_inline void slot_show(struct pod *pod, __u32 index, struct slot *slot)
{
	bool flowing = slot->state == SLOT_BUSY || slot->state == SLOT_RESPONDING;
	bool userspace = slot->state == SLOT_PASSING || slot->state == SLOT_TAKEN_OVER;
	__u32 takes = slot_takes(pod, index, slot);
	__u64 bit = slot_bit(pod, index);

	word_set(&pod->busy, bit, flowing || userspace || slot_in_flight(slot));
	word_set(&pod->idle, bit, slot->state == SLOT_IDLE);
	word_set(&pod->room, bit, takes & TAKES_ROOM);
	word_set(&pod->deeper, bit, takes & TAKES_DEEPER);
}

/*
 * Whether the oldest message of a slot that has some in flight has waited too
 * long: for its response, or for the pod's TCP to acknowledge it. Of a pod that sleeps and has just got something nobody can say
 * so yet; of one that is being woken the time runs, as that might never come to an end.
 */
static __always_inline bool slot_overdue(struct slot *slot, const struct pod *pod, __u32 now_ms)
{
	struct message *m = slot_message(slot, slot->head);
	__s32 age = now_ms -
		    (__u32)(pod_since(pod, m->taken_ns) / 1000000); /* below 0: after the caller looked at the clock */

	if (*(volatile __u32 *)&pod->sleep == POD_ASLEEP)
		return false;
	return age > (__s32)pod->timeout_ms || (!m->acked && slot->state == SLOT_BUSY && age > (__s32)pod->unacked_ms);
}

/*
 * Whether the first response on a connection takes long: perhaps because the
 * pod reads another connection, on which nothing comes. Once for each connection.
 */
static __always_inline bool slot_stalled(struct slot *slot, const struct pod *pod, __u32 now_ms)
{
	struct message *m = slot_message(slot, slot->head);

	return pod->stall_ms && slot->state == SLOT_BUSY && !slot->responded_ns && !slot->stalled &&
	       !*(volatile __u32 *)&pod->sleep &&
	       (__s32)(now_ms - (__u32)(pod_since(pod, m->taken_ns) / 1000000)) > (__s32)pod->stall_ms;
}

/*
 * Whether a trial takes so long to be answered that the pod is likely to have
 * dropped it: its patience since it answered another request of the connection, or
 * four times that where it answers none.
 */
static __always_inline bool slot_trial_overdue(struct slot *slot, const struct pod *pod, __u32 now_ms)
{
	__u64 since = pod_since(pod, slot_message(slot, slot->head)->taken_ns);
	__u32 limit = 4 * pod->stall_ms;

	if (*(volatile __u32 *)&pod->sleep)
		return false;
	if (slot->responded_ns > since) {
		since = slot->responded_ns;
		limit = pod->stall_ms;
	}
	return limit && (slot->state == SLOT_BUSY || slot->state == SLOT_TAKEN_OVER) && slot_has(slot, slot->trial) &&
	       (__s32)(now_ms - (__u32)(since / 1000000)) > (__s32)limit;
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

#endif
