/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* queue.bpf.c - what userspace does with messages that wait, and requests that a timer has found lost. */
#include "../reply/reply.h"
#include "../upstream/resend.h"
#include "../upstream/unpark.h"

/* The list of the queue on which something has waited so long, beginning with those of this family; PARK_LISTS: none has. Under the lock. */
static __always_inline __u32 park_older(struct parking *k, struct queue *q, __u32 family, __u32 before_ms)
{
	__u32 found = PARK_LISTS;

	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < PARK_LISTS; i++)
	{
		if (afresh(found) != PARK_LISTS)
			break;
		/* of each family first what has its turn, then what stands behind others in lines */
		__u32 list = ((family ^ (i >> 1)) & 1) | (i & 1 ? PARK_FAMILIES : 0);

		if (parking_old(k, q, list, before_ms))
			found = list;
	}
	return found;
}

/*
 * PARK_OP_TAKE, of the family of what was refused last, if there is one: the message in a->number is userspace's, which finishes it; its
 * device has one less in flight here.
 */
static __always_inline void park_take(struct park_args *a, __u32 queue, __u32 before_ms)
{
	struct queue *q = queue_entry(queue);
	struct parking *k = parking_get();
	struct parked_message *e;
	__u32 n = PARK_NONE, list;

	if (!q || !k)
		return;
	bpf_spin_lock(&k->lock);
	list = park_older(k, q, q->refused, before_ms);
	if (list < PARK_LISTS)
		n = parking_pop(k, q, list, true);
	bpf_spin_unlock(&k->lock);
	e = parked_entry(n);
	if (!n || !e)
		return;
	a->line = e->message.line ? park_client(k, e->message.line)->line
				  : 0; /* userspace holds it now: it is not another's */
	reply_leave(&e->message, NO_INDEX);
	count(HOOK_CONTROL, REASON_PARK_HANDED);
	a->number = n;
	a->ok = 1;
}

/* PARK_OP_HOLD and PARK_OP_WATCH. */
static __always_inline void park_line(struct parking *k, struct park_args *a, __u32 op, __u64 line)
{
	bool behind = false, flight = false;
	__u32 n;

	bpf_spin_lock(&k->lock);
	if (op == PARK_OP_HOLD)
		n = line_hold(k, line, &behind);
	else
		n = line_watch(k, line, &flight);
	bpf_spin_unlock(&k->lock);
	a->number = n;
	a->flight = flight;
	a->ok = !behind;
}

/* PARK_OP_RELEASE: of the line of this number; those of it that may go on then (a->waits) wait in the queue a->queue. */
static __always_inline void park_release(struct parking *k, struct park_args *a, __u32 line)
{
	__u32 queue = *(volatile __u32 *)&park_client(k, line)->queue;
	struct queue *q = queue_entry(queue);
	bool same, waits = false;

	bpf_spin_lock(&k->lock);
	same = park_client(k, line)->queue == queue; /* else its first message has just been admitted */
	if (same)
		waits = line_release(k, q, line);
	bpf_spin_unlock(&k->lock);
	a->queue = queue;
	a->ok = same;
	a->waits = waits;
}

/* What userspace does with messages that wait for slots (struct park_args). */
SEC("syscall")
int park_control(struct park_args *a)
{
	__u32 op = a->op, queue = a->queue, before_ms = a->before_ms, number = a->number;
	struct parking *k = parking_get();
	__u64 line = a->line;

	a->ok = 0;
	if (!k)
		return 0;
	switch (op) {
	case PARK_OP_TAKE:
		park_take(a, queue, before_ms);
		break;
	case PARK_OP_FREE:
		bpf_spin_lock(&k->lock);
		parking_free(k, number);
		bpf_spin_unlock(&k->lock);
		a->ok = 1;
		break;
	case PARK_OP_ROOM:
		bpf_spin_lock(&k->lock);
		if (number > k->limit)
			k->limit = number;
		k->asked = 0;
		bpf_spin_unlock(&k->lock);
		a->ok = 1;
		break;
	case PARK_OP_HOLD:
	case PARK_OP_WATCH:
		park_line(k, a, op, line);
		break;
	case PARK_OP_RELEASE:
		park_release(k, a, number);
		break;
	}
	return 0;
}

/*
 * Sends what waits in the queue cb[0] to slots that are free. Userspace runs it with any packet of its own, which only
 * lends its memory to the requests: packets cannot interrupt it then, and slots are free now that no packet told of. Returns
 * 1 if a slot's connection does not take the message whose turn it is, else 0.
 */
SEC("tc")
int park_send(struct __sk_buff *skb)
{
	__u32 queue = skb->cb[0];
	int refused = unpark_all(skb, queue, NO_INDEX, HOOK_CONTROL, 0);

	return refused | unpark_all(skb, queue, NO_INDEX, HOOK_CONTROL, 1);
}

/*
 * Names the requests that are to be sent again because the oldest one's timeout has passed: those
 * of s->piece. Returns 1 if there are any, 0 if the pod has acknowledged it meanwhile. A function of its own, for
 * the size of the stack.
 */
__attribute__((noinline)) int requests_expire(__u32 index, __u32 gen)
{
	struct scratch *s = scratch_of(HOOK_TC_POD_IN);
	__u32 now_ms = bpf_ktime_get_ns() / 1000000, pod_key, mss;
	struct conn *c = conn_entry(index);
	struct slot *slot;
	struct pod *pod;
	int expired = 0;

	if (!s || !c || index >= knob_slots)
		return 0;
	slot = slot_entry(index);
	if (!slot)
		return 0;
	pod_key = slot->pod;
	pod = bpf_map_lookup_elem(&pods, &pod_key);
	if (!pod)
		return 0;
	mss = slot_mss(pod, c, now_ms);
	bpf_spin_lock(&c->lock);
	if (c->gen == gen && (__s32)(slot_due(c, slot, now_ms) - now_ms) <= 0) {
		recovery_expire(&slot->recovery, c);
		requests_missing(&s->piece, index, c, slot, mss, now_ms);
		expired = 1;
	}
	bpf_spin_unlock(&c->lock);
	return expired;
}

/*
 * The sweeper has found the oldest request of slot cb[0], generation cb[1], not acknowledged in time: it
 * leaves again, unless it was meanwhile. Userspace runs it as park_send, so that the work space of
 * tc_pod_in is free. Returns 1 if it sent something, else 0.
 */
SEC("tc")
int requests_send(struct __sk_buff *skb)
{
	struct scratch *s = scratch_of(HOOK_TC_POD_IN);
	__u32 index = skb->cb[0], gen = skb->cb[1];

	if (!s || !requests_expire(index, gen))
		return 0;
	requests_resend(skb, s, HOOK_CONTROL);
	return 1;
}
