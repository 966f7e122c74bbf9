/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* slot.h - claiming and releasing idle connections to pods. */
#ifndef EPROXY_SLOT_H
#define EPROXY_SLOT_H

#include "attention.h"
#include "ids.h"
#include "recovery.h"
#include "scratch.h"
#include "verdict.h"

/* Values of sk_state (include/net/tcp_states.h). */
#define TCP_ESTABLISHED 1
#define TCP_LISTEN	10

/* Puts what is particular to a connection's generation, or a pod, into a ring. Whether it could; if not, `hook` has counted it. */
static __always_inline bool event_in(void *ring, enum hook hook, enum event_kind kind, __u32 conn, __u32 gen)
{
	struct event *e = bpf_ringbuf_reserve(ring, sizeof(*e), 0);

	if (!e) {
		count(hook, REASON_EVENT_LOST);
		return false;
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
	return true;
}

/* Notifies userspace as event_in says. */
static __always_inline bool event_simple(enum hook hook, enum event_kind kind, __u32 conn, __u32 gen)
{
	return event_in(&events, hook, kind, conn, gen);
}

/*
 * Has userspace wake a pod that is asleep, once: of all that have something for it the first one says so. Called behind
 * what makes that visible, which is a full barrier, as the change to POD_ASLEEP is: who puts the pod to sleep
 * looks behind that for what is in flight, so that of the two at least one sees the other. Where the
 * event is lost the pod is asleep still, and the sweeper tries again.
 */
static __always_inline void pod_rouse(enum hook hook, struct pod *pod)
{
	if (*(volatile __u32 *)&pod->sleep != POD_ASLEEP ||
	    __sync_val_compare_and_swap(&pod->sleep, POD_ASLEEP, POD_WAKING) != POD_ASLEEP)
		return;
	if (!event_in(&wakes, hook, EVENT_WAKE, pod->first_slot, 0))
		__sync_val_compare_and_swap(&pod->sleep, POD_WAKING, POD_ASLEEP);
}

/* Since when a pod could have answered what it got at this time: while its processes are frozen nobody can. Nanoseconds, CLOCK_MONOTONIC. */
static __always_inline __u64 pod_since(const struct pod *pod, __u64 ns)
{
	__u64 thawed = *(volatile __u64 *)&pod->thawed_ns;

	return thawed > ns ? thawed : ns;
}

/*
 * Whether a pod has no place left, `filling` being that word as it was read
 * before. A place is a slot that has requests in flight, or is about to have
 * one, or one of the fallback's own requests; there are never more than the
 * function's concurrency. Who wants one first makes that visible (a bit in
 * `filling`, one more in `fallback`: atomics that are full barriers), then
 * counts, and takes it back where there are too many by now: of two who do so at
 * the same time at least the later one sees the other. A slot gets its bit in
 * `busy` before it loses the one in `filling`; so `filling` is read first.
 */
static __always_inline bool pod_full(const struct pod *pod, __u64 filling)
{
	__u32 fallback = *(volatile __u32 *)&pod->fallback;

	/* without the fallback slots are too many only while more are in flight than a reload has left places for */
	return popcount64(filling | *(volatile __u64 *)&pod->busy | *(volatile __u64 *)&pod->reserved) + fallback >
	       pod->concurrency;
}

/* The bits of slots that are none of the pod's places any more: a reload has lowered its concurrency (1 to 64). */
static __always_inline __u64 pod_beyond(const struct pod *pod)
{
	return ~1ull << ((*(volatile __u16 *)&pod->concurrency - 1) & 63);
}

/*
 * Tells userspace of a place that it waits for; after everything that may have
 * made one free. Where the event is lost the sweeper calls it again, of the pod's first
 * slot.
 */
static __always_inline void pod_wake(enum hook hook, struct pod *pod)
{
	__u64 used;

	if (!*(volatile __u32 *)&pod->waiting)
		return;
	used = *(volatile __u64 *)&pod->filling;
	used |= *(volatile __u64 *)&pod->busy;
	if (popcount64(used) + *(volatile __u32 *)&pod->fallback >= pod->concurrency)
		return;
	if (!__sync_fetch_and_and(&pod->waiting, 0))
		return;
	if (!event_simple(hook, EVENT_PLACE, pod->first_slot, 0)) {
		__sync_fetch_and_or(&pod->waiting, 1);
		attention_set(pod->first_slot);
	}
}

/* Asks userspace for more slots, once until it clears `asked`. Where the event is lost the next message asks again. */
static __always_inline void pod_ask(enum hook hook, struct pod *pod)
{
	pod->lacked++;
	if (*(volatile __u32 *)&pod->asked || __sync_fetch_and_or(&pod->asked, 1))
		return;
	if (!event_simple(hook, EVENT_SLOTS, pod->first_slot, 0))
		__sync_fetch_and_and(&pod->asked, 0);
}

/* How much a pod can carry now: wholly idle slots count most. One that is asleep is left so where others can carry something. */
static __always_inline __u32 pod_score(const struct pod *pod)
{
	__u64 free = ~(pod->filling | pod->reserved | pod_beyond(pod));

	if (pod->sleep)
		return 0;
	return popcount64(pod->idle & free) * 64 + popcount64(pod->room & free);
}

/* Of a function's pods, n of them from this one on, one of two random ones: the one that can carry more. */
static __always_inline struct pod *pod_of(const struct function *fn, __u32 from, __u32 n)
{
	__u32 r, a, b;
	struct pod *pa, *pb;

	if (!n || n > PODS_PER_FUNCTION)
		return NULL;
	r = n > 1 ? bpf_get_prandom_u32() : 0;
	a = ((r & 0xffff) * n) >> 16;
	b = a + 1 + (((r >> 16) * (n - 1)) >> 16);
	if (b >= n)
		b -= n;
	a += from;
	b += from;
	opaque(a);
	opaque(b);
	if (a >= PODS_PER_FUNCTION || b >= PODS_PER_FUNCTION)
		return NULL;
	a = fn->pods[a];
	b = fn->pods[b];
	pa = bpf_map_lookup_elem(&pods, &a);
	if (a == b)
		return pa;
	pb = bpf_map_lookup_elem(&pods, &b);
	if (!pa || !pb)
		return pa ? pa : pb;
	return pod_score(pb) > pod_score(pa) ? pb : pa;
}

/*
 * The pod that a message goes to: one of those near by, or where that is busy one of
 * the others, if that is not. The near one is given more slots meanwhile if it may have more.
 */
static __always_inline struct pod *pod_choose(enum hook hook, const struct function *fn)
{
	__u32 n = *(volatile __u32 *)&fn->pod_count, near = *(volatile __u32 *)&fn->near;
	struct pod *pod, *other;

	if (!near || near >= n)
		return pod_of(fn, 0, n);
	pod = pod_of(fn, 0, near);
	if (pod && pod_score(pod))
		return pod;
	other = pod_of(fn, near, n - near);
	if (!other || !pod)
		return pod ? pod : other;
	if (!pod_score(other))
		return pod;
	pod_ask(hook, pod);
	return other;
}

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

/* The slots with requests in flight that may get one more, of this QoS. */
static __always_inline __u64 pod_more(const struct pod *pod, __u32 qos)
{
	__u64 room = *(volatile __u64 *)&pod->room;

	room |= *(volatile __u64 *)&pod->deeper & -(__u64)(qos & 1);
	return room;
}

/* Tries to get hold of a slot that can take a request. One that has some in flight has its place already. */
static __always_inline enum slot_hold slot_try(struct pod *pod, __u64 bit, __u32 qos)
{
	__u64 filling = __sync_fetch_and_or(&pod->filling, bit);
	bool full;

	if (filling & bit)
		return SLOT_LOST;
	full = !(*(volatile __u64 *)&pod->busy & bit) && pod_full(pod, filling | bit);
	if (!full && (*(volatile __u64 *)&pod->idle | pod_more(pod, qos)) & bit)
		return SLOT_HELD;
	slot_drop(pod, bit);
	return full ? SLOT_FULL : SLOT_LOST;
}

/*
 * Claims a slot for one more request: the lowest idle one (the hottest), else
 * one that has room, the same for the same device while it has, else, with QoS 1,
 * the one that tries how many requests the pod can do with. The caller
 * holds its bit in `filling` until slot_release; nobody else makes a request
 * for it meanwhile. Returns NO_INDEX if there is none. Where no idle one is left
 * userspace is asked for more. The slots whose bits are in `not` are left out.
 */
static __always_inline __u32 slot_claim(enum hook hook, struct pod *pod, __u32 device, __u32 qos, __u64 not)
{
	__u64 beyond = pod_beyond(pod) | not;
	__u32 index = NO_INDEX;
	bool full = false;

	for (int i = 0; i < 4; i++) {
		__u64 filling = *(volatile __u64 *)&pod->filling;
		__u64 idle = *(volatile __u64 *)&pod->idle & ~filling & ~beyond, high, bit;
		__u64 held = filling | beyond | *(volatile __u64 *)&pod->reserved, free = full ? 0 : idle & ~held;
		enum slot_hold got;

		if (!free) {
			if (!idle)
				pod_ask(hook, pod);
			free = *(volatile __u64 *)&pod->room & ~held;
			if (!free)
				free = pod_more(pod, qos) & ~held;
			high = free & ~0ull << (device & 63);
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

/* The bit of one of its pod's slots in the pod's words. */
static __always_inline __u64 slot_bit(const struct pod *pod, __u32 index)
{
	return 1ull << (((index - pod->first_slot) >> knob_pod_shift) & 63);
}

/* A device's message follows its last one to a slot if it is likely to wait no longer than this there, nanoseconds. */
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
 * idle connections, and so does one whose depth is found out, as long as it has
 * any, and one that is far: what gets lost or comes late on the way holds up all behind it. Returns the pod, or NULL; as slot_claim otherwise.
 */
static __always_inline struct pod *slot_follow(const struct conn *c, const struct device *d, __u32 function, __u32 qos,
					       __u32 *index)
{
	__u32 key = *(volatile __u32 *)&d->last_slot, pod_key;
	const struct conn *sc;
	struct slot *slot;
	struct pod *pod;
	__u64 bit, free;

	if (!*(volatile __u16 *)&c->in_flight || key >= knob_slots)
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
	free = ~(pod->filling | pod->reserved | pod_beyond(pod));
	if ((pod->wait_ns || recovery_far(sc)) && pod->idle & free & ~bit)
		return NULL;
	if (!((pod->idle | pod_more(pod, qos)) & free & bit) || slot_try(pod, bit, qos) != SLOT_HELD)
		return NULL;
	*index = key;
	return pod;
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
	slot_drop(pod, slot_bit(pod, index));
}

/*
 * Sets or clears a bit of a word that others change too; does not touch the
 * cache line where it is so already. A full barrier where it is not: without the
 * use of its result the instruction would be none.
 */
static __always_inline void word_set(__u64 *word, __u64 bit, bool on)
{
	__u64 old;

	if (!(*(volatile __u64 *)word & bit) == !on)
		return;
	old = on ? __sync_fetch_and_or(word, bit) : __sync_fetch_and_and(word, ~bit);
	opaque(old);
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
 * long: for its response, or for the pod's TCP to acknowledge it.
 */
static __always_inline bool slot_overdue(struct slot *slot, const struct pod *pod, __u32 now_ms)
{
	struct message *m = slot_message(slot, slot->head);
	__s32 age = now_ms -
		    (__u32)(pod_since(pod, m->taken_ns) / 1000000); /* below 0: after the caller looked at the clock */

	if (*(volatile __u32 *)&pod->sleep)
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

/*
 * The buffer of a slot's request. The first of each slot lie together, so that slots
 * that have one request at a time share their memory; behind them those of a slot do,
 * and the slots of a pod.
 */
static __always_inline struct request *request_buffer(__u32 index, __u32 number)
{
	__u32 n = number & (knob_pipeline - 1), pod = index & ((1 << knob_pod_shift) - 1);
	__u32 own = pod * SLOTS_PER_POD + (index >> knob_pod_shift);

	return chunk_entry(requests, struct request, n ? knob_slots + own * knob_pipeline + n : index);
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
