/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* park.h - a message that found no slot waits for one (upstream/wait.h). */
#ifndef EPROXY_TAKE_PARK_H
#define EPROXY_TAKE_PARK_H

#include "take.h"
#include "../upstream/wait.h"

/* Notes that the segment parks a message in this queue; false if it has parked some in too many others. */
static __always_inline bool park_note(struct scratch *s, __u32 queue)
{
	bool noted = false;

	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < SEGMENT_QUEUES; i++)
	{
		if (i >= afresh(s->queue_count)) {
			s->queues[i] = queue;
			s->queue_count = i + 1;
			noted = true;
			break;
		}
		if (s->queues[i] == queue) {
			noted = true;
			break;
		}
	}
	return noted;
}

/*
 * The message that take_publish found no slot for is parked: removed from the device's stream
 * and done there, its request finished. Returns enum reason; REASON_TAKEN: it waits in one of
 * s->queues. A function of its own, so that the verifier follows it once.
 */
__attribute__((noinline)) int park_message(struct __sk_buff *skb, __u32 conn)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	__u32 n, hold = HOLD_NONE, room, name;
	__u8 id_prefix[16];
	__u64 id = 0;
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
	if (!park_note(s, fn->queue))
		return REASON_PARK_FULL;
	name = park_name(conn, s->packet.ipv6);
	bpf_spin_lock(&k->lock);
	n = parking_admit(k, q, name, &id);
	room = k->limit - k->used;
	bpf_spin_unlock(&k->lock);
	now = bpf_ktime_get_ns();
	pod->denied_ms = now / 1000000;
	pod_ask(HOOK_TC_DEVICE_IN, pod);
	if (room < PARK_SCARCE && k->limit < PARKED_MAX && !*(volatile __u32 *)&k->asked) {
		*(volatile __u32 *)&k->asked = 1;
		if (!event_simple(HOOK_TC_DEVICE_IN, EVENT_ROOM, 0, 0))
			*(volatile __u32 *)&k->asked = 0;
	}
	if (!n)
		return REASON_PARK_FULL;
	e = parked_entry(n);
	memcpy(id_prefix, q->id_prefix, sizeof(id_prefix));
	id_prefix[8] =
		"0123456789abcdef"[(id >> 32) & 15]; /* a day's messages may be more than eight digits can count */
	reason = e ? take_request(skb, false, s, (struct request *)e->buf, n, id_prefix, id) : REASON_NO_ENTRY;
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
	parking_push(k, q, name, n, now / 1000000);
	bpf_spin_unlock(&k->lock);
	park_attend(k, fn->queue);
	attend(c, conn); /* what is done here is to be acknowledged, whatever becomes of the segment's rest */
	return REASON_TAKEN;
}

#endif
