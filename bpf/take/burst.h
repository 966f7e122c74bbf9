/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* burst.h - the messages of one segment, one after another. */
#ifndef EPROXY_TAKE_BURST_H
#define EPROXY_TAKE_BURST_H

#include "../admit/keep.h"
#include "park.h"
#include "../upstream/unpark.h"

/* Most messages of one segment that are taken; the rest passes. */
#define BURST_MAX 1024

/* The messages of a segment, one after another. What changes is in the scratch, unknown to the verifier. */
struct burst {
	struct __sk_buff *skb;
	struct scratch *s;
	struct take t;
};

/* The requests collected so far leave as a clone of the skb, which TC egress of the pod's interface shapes. */
static __always_inline void burst_flush(struct __sk_buff *skb, struct scratch *s)
{
	skb_send_clone(skb, &s->shape, SHAPE_GROUP, HOOK_TC_DEVICE_IN, &s->group.frame);
	s->group.count = 0;
	s->taking.sent++;
}

/* Goes on behind the message that was just taken. Returns 1 if it was the segment's last, else 0. */
static __always_inline long burst_next(struct scratch *s)
{
	if (afresh(s->admit.kept))
		keep_end(s);
	if (s->publish.length >= s->packet.seg.len) {
		s->taking.last = 1;
		return 1;
	}
	packet_advance(&s->packet, s->publish.length);
	return 0;
}

/* Takes one message and adds its request to those that wait to leave together. */
static long burst_step(__u64 index, void *data)
{
	struct burst *b = data;
	struct scratch *s = b->s;

	if (take_try(b->skb, false, &b->t, s))
		return 1;
	message_taken(s, HOOK_TC_DEVICE_IN, REASON_TAKEN);
	if (s->claim.far) { /* what is done is to be acknowledged, whatever becomes of the segment's rest */
		s->taking.early++;
		attend(b->t.c, b->t.conn);
	}
	if (s->group.count && !group_joins(&s->group, s))
		burst_flush(b->skb, s);
	group_add(&s->group, s);
	return burst_next(s);
}

/* Takes messages while they find slots, and parks one that finds none. */
static long burst_turn(__u64 index, void *data)
{
	struct burst *b = data;
	struct scratch *s = b->s;

	s->taking.vain = 0;
	bpf_loop(BURST_MAX, burst_step, b, 0);
	if (afresh(s->taking.vain))
		park_note(s, afresh(s->taking.queue));
	if (afresh(s->admit.refused) != REASON_NO_SLOT)
		return 1;
	s->admit.refused = park_message(b->skb, b->t.conn);
	if (afresh(s->admit.refused))
		return 1;
	message_taken(s, HOOK_TC_DEVICE_IN, REASON_PARKED);
	s->taking.early++;
	return burst_next(s);
}

/* Slots may have become free since messages were parked: in each queue that the segment has some in. */
static __always_inline void device_unpark(struct __sk_buff *skb, struct scratch *s)
{
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < SEGMENT_QUEUES; i++)
	{
		if (i >= afresh(s->taking.queue_count))
			break;
		unpark_all(skb, afresh(s->taking.queues[i]), NO_INDEX, HOOK_TC_DEVICE_IN, afresh(s->packet.ipv6));
	}
}

#endif
