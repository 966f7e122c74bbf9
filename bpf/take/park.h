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
		if (i >= afresh(s->taking.queue_count)) {
			s->taking.queues[i] = queue;
			s->taking.queue_count = i + 1;
			noted = true;
			break;
		}
		if (s->taking.queues[i] == queue) {
			noted = true;
			break;
		}
	}
	return noted;
}

/* Userspace is asked for more memory where few messages find some. */
static __always_inline void park_ask(struct parking *k, __u32 room)
{
	if (room >= PARK_SCARCE || k->limit >= PARKED_MAX || *(volatile __u32 *)&k->asked)
		return;
	*(volatile __u32 *)&k->asked = 1;
	if (!event_simple(HOOK_TC_DEVICE_IN, EVENT_ROOM, 0, 0))
		*(volatile __u32 *)&k->asked = 0;
}

/*
 * The message's request is written to entry n of those that wait, and the message leaves its device's stream, where it is done.
 * *hold is the message's on its packet identifier.
 */
static __always_inline enum reason park_write(struct __sk_buff *skb, struct scratch *s, struct conn *c,
					      struct device *d, struct queue *q, __u32 n, __u64 id, __u64 now,
					      __u32 *hold)
{
	struct parked_message *e = parked_entry(n);
	__u8 id_prefix[16];
	enum reason reason;

	if (!e)
		return REASON_NO_ENTRY;
	memcpy(id_prefix, q->id_prefix, sizeof(id_prefix));
	/* a day's messages may be more than eight digits can count */
	id_prefix[8] = "0123456789abcdef"[(id >> 32) & 15];
	reason = request_write(skb, false, s, (struct request *)e->buf, n, id_prefix, id);
	if (reason)
		return reason;
	if (s->routed.copy)
		return copy_account(skb, false, s, NO_INDEX, true, hold);
	return take_settle(c, d, s, now, NO_INDEX, true, hold);
}

/* What the message's entry says of it, beside its request. */
static __always_inline void park_describe(struct parked_message *e, const struct scratch *s, __u32 line, __u32 hold,
					  __u64 now)
{
	e->message.taken_ns = now;
	e->message.origin = s->origin.index;
	e->message.origin_gen = s->origin.gen;
	e->message.origin_position = s->origin.position;
	e->message.origin_kind = s->origin.kind;
	e->message.counter = s->routed.counter;
	e->message.request_len = s->draft.len;
	e->message.packet_id = s->publish.packet_id;
	e->message.qos = s->publish.qos;
	e->message.hold = hold;
	e->message.line = line;
}

/* A number for the message in s among those that wait in q, and *line, that it stands in. Under the lock. */
static __always_inline __u32 park_admit(struct parking *k, struct queue *q, const struct function *fn,
					const struct scratch *s, __u32 name, __u32 *line, __u64 *id)
{
	if (s->routed.line)
		return line_admit(k, q, fn->queue, s->packet.ipv6, s->routed.line, line, id);
	return parking_admit(k, q, name, id);
}

/* Takes back what park_admit did. */
static __always_inline void park_cancel(struct parking *k, struct queue *q, __u64 name, __u32 line, __u32 n)
{
	bool tell = false;

	bpf_spin_lock(&k->lock);
	if (line)
		tell = line_cancel(k, q, line, n);
	else
		parking_cancel(k, q, n);
	bpf_spin_unlock(&k->lock);
	if (tell)
		line_tell(HOOK_TC_DEVICE_IN, name);
}

/*
 * The message that take_publish found no slot for is parked: removed from the device's stream
 * and done there, its request finished. Returns enum reason; REASON_TAKEN: it waits in one of
 * s->taking.queues. A function of its own, so that the verifier follows it once.
 */
__attribute__((noinline)) int park_message(struct __sk_buff *skb, __u32 conn)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	struct device *d = device_entry(conn);
	struct parking *k = parking_get();
	struct conn *c = conn_entry(conn);
	__u32 n, hold = HOLD_NONE, line = PARK_NONE, room, name;
	struct parked_message *e;
	struct function *fn;
	enum reason reason;
	struct queue *q;
	struct pod *pod;
	__u64 now, id = 0;

	if (!s || !d || !k || !c)
		return REASON_NO_SLOT;
	if (s->publish.properties && s->properties.read.expiry)
		return REASON_EXPIRY;
	fn = bpf_map_lookup_elem(&functions, &s->routed.function);
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
	n = park_admit(k, q, fn, s, name, &line, &id);
	room = k->limit - k->used;
	bpf_spin_unlock(&k->lock);
	now = bpf_ktime_get_ns();
	if (!s->routed.line) { /* else it waits for the one before, perhaps, and not for a slot */
		pod->denied_ms = now / 1000000;
		pod_ask(HOOK_TC_DEVICE_IN, pod);
	}
	park_ask(k, room);
	if (!n)
		return REASON_PARK_FULL;
	e = parked_entry(n);
	reason = e ? park_write(skb, s, c, d, q, n, id, now, &hold) : REASON_NO_ENTRY;
	if (reason || !e) {
		park_cancel(k, q, s->routed.line, line, n);
		return reason;
	}
	park_describe(e, s, line, hold, now);
	bpf_spin_lock(&k->lock);
	if (line)
		line_push(k, q, line, n, now / 1000000);
	else
		parking_push(k, q, name, n, now / 1000000);
	bpf_spin_unlock(&k->lock);
	park_attend(k, fn->queue);
	attend(c, conn); /* what is done here is to be acknowledged, whatever becomes of the segment's rest */
	return REASON_TAKEN;
}

#endif
