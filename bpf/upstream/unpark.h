/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* unpark.h - what waits gets the slots that are free now (wait.h). */
#ifndef EPROXY_UPSTREAM_UNPARK_H
#define EPROXY_UPSTREAM_UNPARK_H

#include "group.h"
#include "wait.h"

/* Most messages that leave at once. */
#define UNPARK_MAX 64

/* Copies a parked message's request to the slot's buffer for this request. Returns 0 or -1. A function of its own, as the others. */
__attribute__((noinline)) int unpark_copy(__u32 slot, __u32 number, __u32 message)
{
	struct parked_message *e = parked_entry(message);
	struct request *r = request_buffer(slot, number);

	if (!e || !r)
		return -1;
	copy_lines(r->buf, e->buf, &e->message.request_len, REQUEST_MAX);
	return 0;
}

/* How long a message has waited, in microseconds; 0 where another processor's clock is behind, and no more than fits. */
static __always_inline __u32 waited_us(__u64 now, __u64 since)
{
	__u64 us = now > since ? (now - since) / 1000 : 0;

	return us < ~0u ? us : ~0u;
}

/*
 * A parked message's request becomes the next one of the claimed slot s->claim.slot. Returns enum reason;
 * REASON_TAKEN: its frame's headers are in s->frame, and it must be sent.
 */
static __always_inline enum reason unpark_into(struct scratch *s, struct pod *pod, const struct parked_message *e,
					       __u32 n, enum hook hook)
{
	struct slot *slot = slot_entry(s->claim.slot);
	struct conn *sc = conn_entry(s->claim.slot);
	struct order order = { .from = &s->origin,
			       .counter = e->message.counter,
			       .len = e->message.request_len,
			       .id = e->message.packet_id,
			       .qos = e->message.qos,
			       .early = 1,
			       .hold = e->message.hold,
			       .line = e->message.line };
	enum reason reason;
	__u64 now;

	if (!slot || !sc)
		return REASON_DEAD_SOCKET;
	s->claim.gen = *(volatile __u32 *)&sc->gen;
	s->claim.number = slot_next(slot);
	if (!slot_alive(s->claim.slot)) {
		slot_retire(sc, slot, pod, s->claim.slot, s->claim.gen, hook);
		return REASON_DEAD_SOCKET;
	}
	s->origin.kind = e->message.origin_kind;
	s->origin.index = e->message.origin;
	s->origin.gen = e->message.origin_gen;
	s->origin.position = e->message.origin_position;
	s->draft.len = e->message.request_len;
	if (unpark_copy(s->claim.slot, s->claim.number, n))
		return REASON_NO_ENTRY;
	slot->count++; /* userspace counts requests by it */
	now = bpf_ktime_get_ns();
	order.waited_us = waited_us(now, e->message.taken_ns);
	reason = slot_begin(hook, sc, slot, pod, &s->claim, &order, &s->frame, now);
	if (reason)
		return reason;
	attend(sc, s->claim.slot);
	return REASON_TAKEN;
}

/* What came of trying to send a message that waits. */
enum unpark {
	UNPARK_NONE = 0, /* none waits, or there is no place for it */
	UNPARK_SENT = 1,
	UNPARK_REFUSED = 2, /* it fits no segment to this pod: it waits on, first in its turn */
	UNPARK_AGAIN = 3,   /* the slot is of no use, or another message's turn came: one may be sent all the same */
};

/*
 * Claims a slot of this pod for a message of this QoS, if the pod serves the queue and the message's
 * address family and has a place. Returns its conn index, or NO_INDEX. A function of its own, so that
 * the verifier follows it once.
 */
__attribute__((noinline)) int unpark_claim(__u32 pod, __u32 queue, __u32 hook, __u32 qos, __u32 family)
{
	struct scratch *s = scratch_of(SCRATCH_UNPARK);
	struct pod *p = bpf_map_lookup_elem(&pods, &pod);
	__u64 shut;
	__u32 slot;

	if (!s || !p || p->up != POD_UP || p->queue != queue || p->ipv6 != family)
		return NO_INDEX;
	shut = s->unpark.shut_pod == pod ? s->unpark.shut : 0;
	if (!((p->idle | pod_more(p, qos)) & ~(p->filling | pod_reserved(p) | pod_beyond(p) | shut)))
		return NO_INDEX;
	slot = slot_claim(hook, p, bpf_get_prandom_u32(), qos, shut);
	if (slot == NO_INDEX)
		pod_wake(hook, p); /* for who found the place that was only tried for */
	return slot;
}

/*
 * A message waits and this pod, which serves its queue and family, has no place: userspace is asked for more
 * slots, and the fallback keeps to its share. While messages wait, nobody else finds out. It was counted when it came.
 */
static __always_inline void unpark_lacks(__u32 pod, __u32 queue, enum hook hook, __u32 family)
{
	struct pod *p = bpf_map_lookup_elem(&pods, &pod);

	if (!p || p->up != POD_UP || p->queue != queue || p->ipv6 != family)
		return;
	p->denied_ms = bpf_ktime_get_ns() / 1000000;
	pod_ask_again(hook, p);
}

/* The pod at this place of the walk, by its index; NO_INDEX behind the last one. */
static __always_inline __u32 unpark_pod(const struct unpark_walk *x, __u64 index)
{
	__u32 key = x->function, n, at;
	struct function *fn = bpf_map_lookup_elem(&functions, &key);

	if (!fn)
		return NO_INDEX;
	n = *(volatile __u32 *)&fn->pod_count;
	if (!n || n > PODS_PER_FUNCTION || index >= n)
		return NO_INDEX;
	at = (x->from + (__u32)index) % n;
	opaque(at);
	return at < PODS_PER_FUNCTION ? fn->pods[at] : NO_INDEX;
}

static long unpark_walk_step(__u64 index, void *data)
{
	struct scratch *s = scratch_of(SCRATCH_UNPARK);
	struct unpark_walk *x;
	__u32 pod;

	if (!s)
		return 1;
	x = &s->unpark.walk;
	pod = unpark_pod(x, index);
	if (pod == NO_INDEX)
		return 1;
	x->slot = unpark_claim(pod, x->queue, x->hook, x->qos, x->family);
	x->pod = pod;
	return afresh(x->slot) != NO_INDEX;
}

/*
 * Claims a slot for the message of this family whose turn it is: of this pod or, if it is NO_INDEX, of any of the function's,
 * from a random one on. Returns 1 if there is one: s->claim.slot, of s->unpark.pod. A function of its own, as the others.
 */
__attribute__((noinline)) int unpark_find(__u32 queue, __u32 pod, __u32 hook, __u32 family)
{
	struct scratch *s = scratch_of(SCRATCH_UNPARK);
	struct queue *q = queue_entry(queue);
	struct parking *k = parking_get();
	struct parked_message *e;
	struct unpark_walk *x;
	__u32 n;

	if (!s || !q || !k || !*(volatile __u32 *)&q->count)
		return 0;
	bpf_spin_lock(&k->lock);
	n = parking_peek(k, q, family);
	bpf_spin_unlock(&k->lock);
	e = parked_entry(n);
	if (!n || !e)
		return 0;
	x = &s->unpark.walk;
	x->function = q->function;
	x->queue = queue;
	x->from = bpf_get_prandom_u32() >> 8;
	x->hook = hook;
	x->qos = e->message.qos; /* if it is another's turn by then, slot_begin finds out */
	x->family = family;
	x->pod = pod;
	if (pod == NO_INDEX) {
		x->slot = NO_INDEX;
		bpf_loop(PODS_PER_FUNCTION, unpark_walk_step, NULL, 0);
		pod = unpark_pod(x, 0);
	} else {
		x->slot = unpark_claim(pod, queue, hook, x->qos, family);
	}
	if (afresh(x->slot) == NO_INDEX && pod != NO_INDEX)
		unpark_lacks(pod, queue, hook, family); /* where all are in question: one, by chance */
	s->claim.slot = afresh(x->slot);
	s->unpark.pod = afresh(x->pod);
	return afresh(s->claim.slot) != NO_INDEX;
}

static long unpark_busy_step(__u64 index, void *data)
{
	struct scratch *s = scratch_of(SCRATCH_UNPARK);
	struct unpark_walk *x;
	struct pod *p;
	__u32 key;

	if (!s)
		return 1;
	x = &s->unpark.walk;
	key = unpark_pod(x, index);
	if (key == NO_INDEX)
		return 1;
	p = bpf_map_lookup_elem(&pods, &key);
	if (p && p->ipv6 == x->family && *(volatile __u64 *)&p->busy)
		x->slot = 0;
	return afresh(x->slot) != NO_INDEX;
}

/* Whether some pod of the function has a request in flight: its response looks at the queue again. */
static __always_inline bool unpark_busy(struct scratch *s, __u32 queue, __u32 family)
{
	struct queue *q = queue_entry(queue);
	struct unpark_walk *x = &s->unpark.walk;

	if (!q)
		return false;
	x->function = q->function;
	x->family = family;
	x->slot = NO_INDEX;
	bpf_loop(PODS_PER_FUNCTION, unpark_busy_step, NULL, 0);
	return afresh(x->slot) != NO_INDEX;
}

/* Notes that a slot's connection takes no request now. */
static __always_inline void unpark_shut(struct scratch *s, const struct pod *pod, __u32 key)
{
	if (s->unpark.shut_pod != key) {
		s->unpark.shut_pod = key;
		s->unpark.shut = 0;
	}
	s->unpark.shut |= slot_bit(pod, s->claim.slot);
}

/* A message that was popped has its slot, and its number is free again; or it waits on, for this reason. */
static __always_inline void unpark_settle(struct parking *k, struct queue *q, const struct parked_message *e, __u32 n,
					  __u32 family, enum reason reason, enum hook hook)
{
	__u32 line = e->message.line;
	bool tell = false;
	__u64 name = 0;

	bpf_spin_lock(&k->lock);
	if (reason && line) {
		line_push_back(k, q, line, n);
	} else if (reason) {
		parking_push_back(k, q, park_name(e->message.origin, family), n);
	} else if (line) {
		name = park_client(k, line)->line;
		tell = line_placed(k, q, line);
	}
	if (!reason)
		parking_free(k, n);
	if (reason == REASON_TOO_LARGE || reason == REASON_POD_WINDOW)
		q->refused = family;
	bpf_spin_unlock(&k->lock);
	if (tell)
		line_tell(hook, name);
}

/*
 * The message of this family whose turn it is gets the slot that unpark_find has claimed. Returns enum unpark; UNPARK_SENT:
 * the caller sends its request. A function of its own, so that the verifier follows it once.
 */
__attribute__((noinline)) int unpark(__u32 queue, __u32 hook, __u32 family)
{
	struct scratch *s = scratch_of(SCRATCH_UNPARK);
	struct queue *q = queue_entry(queue);
	struct parking *k = parking_get();
	struct parked_message *e;
	enum reason reason;
	struct pod *pod;
	__u32 key, n;

	if (!s || !q || !k)
		return UNPARK_NONE;
	key = s->unpark.pod;
	pod = bpf_map_lookup_elem(&pods, &key);
	if (!pod)
		return UNPARK_NONE;
	bpf_spin_lock(&k->lock);
	n = parking_pop(k, q, family & (PARK_FAMILIES - 1), false);
	bpf_spin_unlock(&k->lock);
	e = parked_entry(n);
	s->unpark.reason = n && e ? unpark_into(s, pod, e, n, hook) : REASON_NO_ENTRY;
	reason = afresh(s->unpark.reason);
	if (n && e) {
		unpark_settle(k, q, e, n, family, reason, hook);
		if (reason) /* the sweeper may have seen the queue without this message, and looks no more */
			park_attend(k, queue);
	}
	slot_release(pod, s->claim.slot);
	pod_wake(hook, pod);
	if (!n || !e)
		return UNPARK_AGAIN; /* who parked one meanwhile saw this slot claimed */
	count(hook, reason ? reason : REASON_UNPARKED);
	if (reason == REASON_POD_WINDOW)
		unpark_shut(s, pod, key);
	return !reason ? UNPARK_SENT : reason == REASON_TOO_LARGE ? UNPARK_REFUSED : UNPARK_AGAIN;
}

/* What unpark_step works with. */
struct unpark_ctx {
	struct __sk_buff *skb;
	struct scratch *s; /* of the row SCRATCH_UNPARK */
	__u32 queue;
	__u32 pod;
	enum hook hook;
	__u32 family;
	int refused;
	int sent;
};

/* The requests collected so far leave as a clone of the skb, which TC egress of the pod's interface shapes. */
static __always_inline void unpark_flush(struct unpark_ctx *x)
{
	skb_send_clone(x->skb, &x->s->shape, SHAPE_GROUP, x->hook, &x->s->group.frame);
	x->s->group.count = 0;
}

static long unpark_step(__u64 index, void *data)
{
	struct unpark_ctx *x = data;
	struct scratch *s = x->s;
	int got = UNPARK_NONE;

	if (unpark_find(x->queue, x->pod, x->hook, x->family))
		got = unpark(x->queue, x->hook, x->family);
	if (got == UNPARK_AGAIN)
		return 0;
	if (got != UNPARK_SENT) {
		x->refused = got == UNPARK_REFUSED;
		return 1;
	}
	x->sent = 1;
	if (s->group.count && !group_joins(&s->group, s))
		unpark_flush(x);
	group_add(&s->group, s);
	return 0;
}

/*
 * Sends the messages of a queue and address family (0: IPv4, 1: IPv6) that find slots now, of this pod or, if it is NO_INDEX, of
 * any, as clones of the skb: a packet of that family or none of either; if it is CHECKSUM_PARTIAL it must be a TCP segment.
 * Returns 1 if no slot will take the message whose turn it is, else 0: where windows are full the next response looks
 * again, if one is due. A function of its own, so that the verifier follows it once.
 */
__attribute__((noinline)) int unpark_all(struct __sk_buff *skb, __u32 queue, __u32 pod, __u32 hook, __u32 family)
{
	struct unpark_ctx x = {
		.skb = skb, .s = scratch_of(SCRATCH_UNPARK), .queue = queue, .pod = pod, .hook = hook, .family = family
	};

	if (!x.s)
		return 0;
	x.s->group.count = 0;
	x.s->unpark.shut_pod = NO_INDEX;
	bpf_loop(UNPARK_MAX, unpark_step, &x, 0);
	if (afresh(x.s->group.count))
		unpark_flush(&x);
	if (afresh(x.s->unpark.shut_pod) != NO_INDEX && !afresh(x.sent) && !unpark_busy(x.s, queue, family))
		x.refused = 1;
	if (afresh(x.refused) && hook != HOOK_CONTROL)
		event_simple(hook, EVENT_PARKED, queue, 0);
	return afresh(x.refused);
}

#endif
