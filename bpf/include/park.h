/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * park.h - messages that find no slot wait for one as finished requests, in the
 * order of parking.h. Who parks one sends what it can behind that, and so does who frees a
 * slot: each makes its change first, then looks for the other's, so that none is left
 * behind while a slot is free. For what is left otherwise (the last slot is gone, a
 * deadline is near) the sweeper calls userspace.
 */
#ifndef EPROXY_PARK_H
#define EPROXY_PARK_H

#include "group.h"
#include "parking.h"

/* Most messages that leave at once. */
#define UNPARK_MAX 64

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

/* Has the sweeper look at the queue of this pod, as long as something is in it. */
static __always_inline void park_attend(const struct pod *pod)
{
	__u32 index = pod->first_slot;
	struct conn *sc = conn_entry(index);

	if (sc)
		attend(sc, index);
}

/*
 * The message that take_publish found no slot for is parked: removed from the device's stream
 * and done there, its request finished. Returns enum reason; REASON_TAKEN: s->queue is where
 * it waits. A function of its own, so that the verifier follows it once.
 */
__attribute__((noinline)) int park_message(struct __sk_buff *skb, __u32 conn)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	__u32 n, id = 0, hold = HOLD_NONE, room;
	struct device *d = device_entry(conn);
	struct parking *k = parking_get();
	struct conn *c = conn_entry(conn);
	struct graft *graft = NULL;
	struct id_table *ids;
	enum reason reason;
	struct function *fn;
	struct parked_message *e;
	struct queue *q;
	struct pod *pod;
	__u64 now;

	if (!s || !d || !k || !c)
		return REASON_NO_SLOT;
	fn = bpf_map_lookup_elem(&functions, &s->function);
	if (!fn)
		return REASON_NO_SLOT;
	pod = park_pod(fn, s->packet.ipv6);
	q = queue_entry(fn->queue);
	if (!pod || !q)
		return REASON_NO_SLOT;
	s->queue = fn->queue;
	bpf_spin_lock(&k->lock);
	n = parking_admit(k, q, conn, &id);
	room = k->limit - k->used;
	bpf_spin_unlock(&k->lock);
	now = bpf_ktime_get_ns();
	pod->denied_ms = now / 1000000;
	if (room < PARK_SCARCE && k->limit < PARKED_MAX && !*(volatile __u32 *)&k->asked) {
		*(volatile __u32 *)&k->asked = 1;
		if (!event_simple(HOOK_TC_DEVICE_IN, EVENT_ROOM, 0, 0))
			*(volatile __u32 *)&k->asked = 0;
	}
	if (!n)
		return REASON_PARK_FULL;
	e = parked_entry(n);
	reason = e ? take_request(skb, false, s, (struct request *)e->buf, n, q->id_prefix, id) : REASON_NO_ENTRY;
	if (!reason && e) {
		ids = device_table(d);
		bpf_spin_lock(&c->lock);
		graft = take_account(c, d, ids, s, s->publish.length, now, &hold);
		if (graft)
			ledger_removed(&c->rx);
		bpf_spin_unlock(&c->lock);
		if (!graft)
			reason = REASON_RACE;
	}
	if (reason || !e) {
		bpf_spin_lock(&k->lock);
		parking_cancel(k, q, n);
		bpf_spin_unlock(&k->lock);
		return reason;
	}
	e->message.taken_ns = now;
	e->message.device = conn;
	e->message.device_gen = s->device_gen;
	e->message.device_seq = s->device_seq;
	e->message.counter = s->counter;
	e->message.request_len = s->request_len;
	e->message.packet_id = s->publish.packet_id;
	e->message.qos = s->publish.qos;
	e->message.hold = hold;
	bpf_spin_lock(&k->lock);
	parking_push(k, q, conn, n, now / 1000000);
	bpf_spin_unlock(&k->lock);
	park_attend(pod);
	return REASON_TAKEN;
}

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

/*
 * A parked message's request becomes the next one of the claimed slot s->slot. Returns enum reason;
 * REASON_TAKEN: its frame's headers are in s->frame, and it must be sent.
 */
static __always_inline enum reason unpark_into(struct scratch *s, struct pod *pod, const struct parked_message *e,
					       __u32 n, enum hook hook)
{
	struct slot *slot = slot_entry(s->slot);
	struct conn *sc = conn_entry(s->slot);
	struct message *m;
	enum reason reason;
	__u32 gen;
	__u64 now;

	if (!slot || !sc)
		return REASON_DEAD_SOCKET;
	gen = *(volatile __u32 *)&sc->gen;
	s->number = slot_next(slot);
	if (!slot_alive(s->slot)) {
		slot_retire(sc, slot, pod, s->slot, gen, hook);
		return REASON_DEAD_SOCKET;
	}
	s->device = e->message.device;
	s->device_gen = e->message.device_gen;
	s->device_seq = e->message.device_seq;
	s->counter = e->message.counter;
	s->publish.packet_id = e->message.packet_id;
	s->publish.qos = e->message.qos;
	s->request_len = e->message.request_len;
	if (unpark_copy(s->slot, s->number, n))
		return REASON_NO_ENTRY;
	slot->count++; /* userspace counts requests by it */
	now = bpf_ktime_get_ns();
	reason = slot_begin(sc, slot, pod, s, gen, now);
	if (reason)
		return reason;
	/* nobody looks at it before: the slot is still claimed */
	m = slot_message(slot, s->number);
	m->hold = e->message.hold;
	m->waited_us = (now - e->message.taken_ns) / 1000;
	attend(sc, s->slot);
	return REASON_TAKEN;
}

/*
 * Claims a slot of this pod for a message of this QoS, if it serves the queue and one is free. Returns its conn
 * index, or NO_INDEX. A function of its own, so that the verifier follows it once.
 */
__attribute__((noinline)) int unpark_claim(__u32 pod, __u32 queue, __u32 hook, __u32 qos)
{
	struct pod *p = bpf_map_lookup_elem(&pods, &pod);

	if (!p || p->up != POD_UP || p->queue != queue)
		return NO_INDEX;
	return slot_claim(hook, p, bpf_get_prandom_u32(), qos);
}

/* One of two random pods of the function, as pod_choose says, by its index; NO_INDEX if it has none. */
__attribute__((noinline)) int unpark_choose(__u32 function)
{
	struct function *fn = bpf_map_lookup_elem(&functions, &function);
	struct pod *p = fn ? pod_choose(fn) : NULL;

	return p ? p->first_slot : NO_INDEX;
}

/*
 * The message of the queue whose turn it is gets a slot, if one is free: of this pod, or, where that has none,
 * of another one of the function. Returns 1 if it has one: the scratch of SCRATCH_UNPARK says which, and the caller sends
 * its request. 2: a slot was free, but its connection does not take this request, which waits on. A function of
 * its own, so that the verifier follows it once.
 */
__attribute__((noinline)) int unpark(__u32 queue, __u32 first, __u32 hook)
{
	struct scratch *s = scratch_of(SCRATCH_UNPARK);
	struct queue *q = queue_entry(queue);
	struct parking *k = parking_get();
	struct parked_message *e;
	enum reason reason;
	__u32 key, n, qos;
	struct pod *pod;

	if (!s || !q || !k || !*(volatile __u32 *)&q->count)
		return 0;
	bpf_spin_lock(&k->lock);
	n = parking_peek(k, q);
	bpf_spin_unlock(&k->lock);
	e = parked_entry(n);
	qos = e ? e->message.qos : 0; /* if it is another's turn by then, slot_begin finds out */
	key = first;
	s->slot = unpark_claim(key, queue, hook, qos);
	if (afresh(s->slot) == NO_INDEX) {
		key = unpark_choose(q->function);
		s->slot = unpark_claim(key, queue, hook, qos);
	}
	pod = bpf_map_lookup_elem(&pods, &key);
	if (afresh(s->slot) == NO_INDEX || !pod)
		return 0;
	bpf_spin_lock(&k->lock);
	n = parking_pop(k, q);
	bpf_spin_unlock(&k->lock);
	e = parked_entry(n);
	s->bad = n && e ? unpark_into(s, pod, e, n, hook) : REASON_NO_ENTRY;
	reason = afresh(s->bad);
	slot_release(pod, s->slot);
	pod_wake(hook, pod);
	if (!n || !e)
		return 0;
	bpf_spin_lock(&k->lock);
	if (reason)
		parking_push_back(k, q, e->message.device, n);
	else
		parking_free(k, n);
	bpf_spin_unlock(&k->lock);
	count(hook, reason ? reason : REASON_UNPARKED);
	return !reason ? 1 : reason == REASON_TOO_LARGE || reason == REASON_POD_WINDOW ? 2 : 0;
}

/* What unpark_step works with. */
struct unpark_ctx {
	struct __sk_buff *skb;
	struct scratch *s; /* of the row SCRATCH_UNPARK */
	__u32 queue;
	__u32 pod;
	enum hook hook;
	int refused;
};

/* The requests collected so far leave as a clone of the skb, which TC egress of the pod's interface shapes. */
static __always_inline void unpark_flush(struct unpark_ctx *x)
{
	skb_send_clone(x->skb, x->s, x->hook, SHAPE_GROUP, &x->s->group.frame);
	x->s->group.count = 0;
}

static long unpark_step(__u64 index, void *data)
{
	struct unpark_ctx *x = data;
	struct scratch *s = x->s;
	int got = unpark(x->queue, x->pod, x->hook);

	if (got != 1) {
		x->refused = got == 2;
		return 1;
	}
	if (s->group.count && !group_joins(&s->group, s))
		unpark_flush(x);
	group_add(&s->group, s);
	return 0;
}

/*
 * Sends the messages of a queue that find slots now, first those of this pod, as clones of the skb; if that is
 * CHECKSUM_PARTIAL it must be a TCP segment. Returns 1 if a slot's connection does not take the message whose turn
 * it is, else 0. A function of its own, so that the verifier follows it once.
 */
__attribute__((noinline)) int unpark_all(struct __sk_buff *skb, __u32 queue, __u32 pod, __u32 hook)
{
	struct unpark_ctx x = { .skb = skb, .s = scratch_of(SCRATCH_UNPARK), .queue = queue, .pod = pod, .hook = hook };

	if (!x.s)
		return 0;
	x.s->group.count = 0;
	bpf_loop(UNPARK_MAX, unpark_step, &x, 0);
	if (afresh(x.s->group.count))
		unpark_flush(&x);
	if (afresh(x.refused) && hook != HOOK_CONTROL)
		event_simple(hook, EVENT_PARKED, queue, 0);
	return afresh(x.refused);
}

#endif
