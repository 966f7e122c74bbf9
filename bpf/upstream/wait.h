/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * wait.h - messages that find no slot wait for one as finished requests, in the
 * order of parking.h. Who parks one looks at all pods behind that, and who frees a slot looks
 * for messages that it can take: each makes its change first, then looks for the other's, so
 * that none is left behind while a slot is free. For what is left otherwise (a slot that was
 * claimed in vain, the last slot is gone, a deadline is near) the sweeper calls userspace.
 */
#ifndef EPROXY_UPSTREAM_WAIT_H
#define EPROXY_UPSTREAM_WAIT_H

#include "../mech/event.h"
#include "../pure/line.h"
#include "slot.h"

/* Userspace is asked for more memory while fewer messages than this find some. */
#define PARK_SCARCE 384

/* Whether a pod has a connection that will be free, or is: each of those ends with a response, or in userspace's hands. */
static __always_inline bool park_serves(const struct pod *pod)
{
	return pod->up == POD_UP && ((pod->idle | pod->room | pod->busy | pod->filling) & ~pod_beyond(pod));
}

/* A pod of the function, of this family, whose slots a message can wait for; NULL if there is none. */
static __always_inline struct pod *park_pod(const struct function *fn, bool ipv6)
{
	struct pod *found = NULL;

	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < PODS_PER_FUNCTION; i++)
	{
		struct pod *pod;
		__u32 key;

		if (i >= afresh(fn->pod_count))
			break;
		key = fn->pods[i];
		pod = bpf_map_lookup_elem(&pods, &key);
		if (pod && pod->ipv6 == ipv6 && park_serves(pod)) {
			found = pod;
			break;
		}
	}
	return found;
}

/* The queue in which a line's messages wait; NULL: none has yet. The line is busy, or the caller's message is in it. */
static __always_inline struct queue *line_queue(struct parking *k, __u32 line)
{
	return queue_entry(*(volatile __u32 *)&park_client(k, line)->queue);
}

/* Tells userspace that what it waits for in a line may have happened. Where the event is lost it looks again by itself. */
static __always_inline void line_tell(enum hook hook, __u64 name)
{
	event_simple(hook, EVENT_LINE, (__u32)name, name >> 32);
}

/* The message of the line that a pod had is answered: the next one may leave. A function of its own, so that the verifier follows it once. */
__attribute__((noinline)) int line_end(__u32 line, __u32 hook)
{
	struct parking *k = parking_get();
	struct queue *q;
	bool tell;
	__u64 name;

	if (!k)
		return 0;
	q = line_queue(k, line);
	if (!q)
		return 0;
	bpf_spin_lock(&k->lock);
	name = park_client(k, line)->line;
	tell = line_answered(k, q, line);
	bpf_spin_unlock(&k->lock);
	if (tell)
		line_tell(hook, name);
	return 0;
}

/* Has the sweeper look at the queue, as long as something is in it: whatever becomes of the pods. */
static __always_inline void park_attend(struct parking *k, __u32 queue)
{
	__u64 *word = &k->attended[(queue / 64) & (QUEUES_MAX / 64 - 1)], bit = 1ull << (queue & 63), old;
	__u32 only = 0;
	struct sweeper *w = bpf_map_lookup_elem(&sweepers, &only);

	if (!w || *(volatile __u64 *)word & bit)
		return;
	old = __sync_fetch_and_or(word, bit);
	opaque(old); /* what uses its result is a full barrier */
	attention_start(w);
}

#endif
