/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* sweep_queue.h - the sweeper looks at messages that wait. */
#ifndef EPROXY_CONTROL_SWEEP_QUEUE_H
#define EPROXY_CONTROL_SWEEP_QUEUE_H

#include "../mech/event.h"
#include "../pure/parking.h"
#include "../upstream/wait.h"
#include "../work/scratch.h"

/* What a look at a queue works with. */
struct sweep_queue {
	__u32 queue;
	__u32 before_ms;
	__u32 now_ms;
	bool old;
};

static long sweep_old_step(__u64 index, void *data)
{
	struct sweep_queue *x = data;
	struct queue *q = queue_entry(x->queue);
	__u32 list = index & (PARK_LISTS - 1), before_ms = x->before_ms;
	struct parking *k = parking_get();
	bool old;

	if (!q || !k)
		return 1;
	bpf_spin_lock(&k->lock);
	old = parking_old(k, q, list, before_ms);
	bpf_spin_unlock(&k->lock);
	x->old = old;
	return old;
}

/*
 * Looks at the messages that wait in a queue: userspace is called if one of them has waited too
 * long, or none of a family has left since the last look. Returns whether there are any, 1 or 0.
 */
__attribute__((noinline)) int sweep_parked(__u32 queue, __u32 now_ms)
{
	struct sweep_queue x = { .queue = queue };
	struct parking *k = parking_get();
	struct queue *q = queue_entry(queue);
	bool stuck = false;
	__u32 any;

	if (!q || !k)
		return 0;
	bpf_spin_lock(&k->lock);
	any = q->count;
	for (__u32 f = 0; f < PARK_FAMILIES; f++) {
		stuck |= q->first_turn[f] && q->looked[f] == q->popped[f];
		q->looked[f] = q->popped[f];
	}
	bpf_spin_unlock(&k->lock);
	x.before_ms = now_ms - q->handover_ms;
	/* each look is at some of the clients: so many are at all of them */
	if (!stuck)
		bpf_loop((any / TURNS_MAX + 1) * PARK_LISTS, sweep_old_step, &x, 0);
	if (afresh(x.old) || stuck)
		event_simple(HOOK_CONTROL, EVENT_PARKED, queue, 0);
	return any ? 1 : 0;
}

#endif
