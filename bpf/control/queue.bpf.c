/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* queue.bpf.c - what userspace does with messages that wait, and requests that a timer has found lost. */
#include "../reply/reply.h"
#include "../upstream/resend.h"
#include "../upstream/unpark.h"

/*
 * PARK_OP_TAKE, of the family of what was refused last, if there is one: the message in a->number is userspace's, which finishes it; its
 * device has one less in flight here.
 */
static __always_inline void park_take(struct park_args *a, __u32 queue, __u32 before_ms)
{
	struct queue *q = queue_entry(queue);
	struct parking *k = parking_get();
	struct parked_message *e;
	__u32 n = PARK_NONE, family;

	if (!q || !k)
		return;
	bpf_spin_lock(&k->lock);
	family = q->refused;
	if (!parking_old(k, q, family, before_ms))
		family ^= 1;
	if (parking_old(k, q, family, before_ms))
		n = parking_pop(k, q, family);
	bpf_spin_unlock(&k->lock);
	e = parked_entry(n);
	if (!n || !e)
		return;
	reply_leave(&e->message, NO_INDEX);
	count(HOOK_CONTROL, REASON_PARK_HANDED);
	a->number = n;
	a->ok = 1;
}

/* What userspace does with messages that wait for slots (struct park_args). */
SEC("syscall")
int park_control(struct park_args *a)
{
	__u32 op = a->op, queue = a->queue, before_ms = a->before_ms, number = a->number;
	struct parking *k = parking_get();

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
