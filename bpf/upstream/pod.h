/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* pod.h - pods: which one can take a request, places, and processes that sleep. */
#ifndef EPROXY_UPSTREAM_POD_H
#define EPROXY_UPSTREAM_POD_H

#include "../mech/attention.h"
#include "../mech/event.h"

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
 * The slots whose places are kept for userspace. None of them while the programs have their turn (`owed`): where places
 * are so few that userspace's share is less than one, it has one now and then.
 */
static __always_inline __u64 pod_reserved(const struct pod *pod)
{
	return *(volatile __s32 *)&pod->owed > 0 ? 0 : *(volatile __u64 *)&pod->reserved;
}

/* One more message is sent to a pod; of the turn that userspace waits for the end of. */
static __always_inline void pod_paid(struct pod *pod)
{
	if (*(volatile __s32 *)&pod->owed > 0)
		__sync_fetch_and_add(&pod->owed, -1);
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
	return popcount64(filling | *(volatile __u64 *)&pod->busy | pod_reserved(pod)) + fallback > pod->concurrency;
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
static __always_inline void pod_ask_again(enum hook hook, struct pod *pod)
{
	if (*(volatile __u32 *)&pod->asked || __sync_fetch_and_or(&pod->asked, 1))
		return;
	if (!event_simple(hook, EVENT_SLOTS, pod->first_slot, 0))
		__sync_fetch_and_and(&pod->asked, 0);
}

/* The same, for a message that has found no slot. */
static __always_inline void pod_ask(enum hook hook, struct pod *pod)
{
	pod->lacked++;
	pod_ask_again(hook, pod);
}

/* How much a pod can carry now: wholly idle slots count most. One that is asleep is left so where others can carry something. */
static __always_inline __u32 pod_score(const struct pod *pod)
{
	__u64 free = ~(pod->filling | pod_reserved(pod) | pod_beyond(pod));

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

/* The slots with requests in flight that may get one more, of this QoS. */
static __always_inline __u64 pod_more(const struct pod *pod, __u32 qos)
{
	__u64 room = *(volatile __u64 *)&pod->room;

	room |= *(volatile __u64 *)&pod->deeper & -(__u64)(qos & 1);
	return room;
}

#endif
