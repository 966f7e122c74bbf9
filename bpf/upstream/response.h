/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* response.h - what a segment of a pod says of the requests in flight on its slot. */
#ifndef EPROXY_UPSTREAM_RESPONSE_H
#define EPROXY_UPSTREAM_RESPONSE_H

#include "begin.h"

/* What is to be done after the slot's lock is released. */
enum pod_duty {
	DUTY_NOTHING = 0,
	DUTY_POD_ACK = 1,   /* acknowledge what was removed */
	DUTY_ATTENTION = 2, /* notify userspace */
};

/* Responses and chunks that are read of one segment; the rest is userspace's. */
#define RESPONSE_STEPS (4 * PIPELINE_MAX)

/* The segment's payload is read response by response. */
struct response_ctx {
	struct __sk_buff *skb;
	struct scratch *s;
};

static long response_step(__u64 index, void *data)
{
	struct response_ctx *ctx = data;
	struct scratch *s = ctx->s;
	struct responses *a = &s->responses;
	__u32 at = responses_at(a), want = responses_want(a), n = a->end - at, completed = a->completed;
	bool done;

	if (at >= a->end)
		return 1;
	if (n > want)
		n = want;
	if (n && (!within(n, 1, HTTP_LOOK) || bpf_skb_load_bytes(ctx->skb, at, s->work, n)))
		return 1;
	done = responses_step(a, &s->http, s->work, n);
	if (a->completed != completed)
		s->answer.statuses[completed & (PIPELINE_MAX - 1)] = a->status;
	return done;
}

enum response_verdict {
	RESPONSE_NONE,	 /* not for the kernel path: passes */
	RESPONSE_REMOVE, /* remove what was read */
	RESPONSE_DROP,	 /* comes again */
};

/*
 * Whether the pod's TCP has acknowledged the n-th oldest request, with this
 * segment or before: what it sent without is no response to it. A pod
 * acknowledges all that it has received with every segment (RFC 9293 section
 * 3.10.7.4), however long it holds a bare ACK back.
 */
static __always_inline bool response_due(const struct conn *c, struct slot *slot, const struct segment *seg, __u32 n)
{
	struct message *m = slot_message(slot, slot->head + n - 1);
	__u32 una = seq_gt(seg->ack, c->tx_una) ? seg->ack : c->tx_una;

	return seq_ge(una, m->request_seq + m->request_len);
}

/*
 * Decides what of the payload is removed from the stream. Under the lock; the
 * segment is the next expected one; begun is what was left of a response when
 * following it began.
 */
static __always_inline enum response_verdict response_verdict(struct conn *c, struct slot *slot,
							      const struct segment *seg, const struct responses *a,
							      __u32 begun, __u32 parsed)
{
	__u32 in_flight = slot_in_flight(slot), n = a->completed + (a->left || parsed < seg->len ? 1 : 0);

	if (slot->state != SLOT_BUSY && slot->state != SLOT_RESPONDING)
		return RESPONSE_NONE;
	if (slot->left != begun)
		return RESPONSE_DROP;
	if (!response_due(c, slot, seg, n < in_flight ? n : in_flight)) {
		slot->state = SLOT_RETIRED; /* userspace takes no response from it any more */
		return RESPONSE_NONE;
	}
	/* more responses than requests, cut off, or too long a segment: userspace reads on from here, or gives up */
	if (a->completed + (a->left ? 1 : 0) > in_flight || !parsed || seg->len > GRAFT_MAX ||
	    (slot->state == SLOT_BUSY && !a->completed && a->left && (seg->flags & TH_FIN))) {
		slot->state = slot->state == SLOT_BUSY ? SLOT_PASSING : SLOT_RETIRED;
		return RESPONSE_NONE;
	}
	/* the rest passes behind a front that the socket must not take for its own */
	if (parsed < seg->len && !conn_caught_up(c))
		return RESPONSE_DROP;
	return RESPONSE_REMOVE;
}

/* Notes a message for what is done without the lock. */
static __always_inline void done_push(struct scratch *s, const struct message *m, enum done_kind kind)
{
	__u32 n = s->outcomes.count & (PIPELINE_MAX - 1);

	s->outcomes.message[n] = *m;
	s->outcomes.kind[n] = kind;
	s->outcomes.count++;
}

/*
 * The requests that the pod's TCP has acknowledged, and how long that took; those that are answered
 * here have no other consequence. Under the lock.
 */
static __always_inline void mark_acked(struct scratch *s, struct conn *c, struct slot *slot, __u32 completed,
				       enum done_kind kind)
{
	__u32 answered = slot->head + completed, oldest = slot_unacked(slot), again = 0, sent_ms = 0;

	slot->acked = slot_unacked(slot);
	repeat(i, PIPELINE_MAX) {
		struct message *m = slot_message(slot, slot->acked);
		bool is_answered = (__s32)(slot->acked - answered) < 0;

		if (!is_answered && (slot->acked == slot->tail || seq_lt(c->tx_una, m->request_seq + m->request_len)))
			break;
		again |= m->again;
		sent_ms = m->sent_ms;
		if (!is_answered) {
			m->acked = 1;
			m->due = s->answer.due;
			done_push(s, m, kind);
		}
		slot->acked++;
	}
	/* of a request that was sent twice nobody knows which of the two is acknowledged (RFC 6298 section 3) */
	if (slot->acked != oldest && !again)
		recovery_measure(&slot->recovery, c, s->now_ns / 1000000 - sent_ms, !s->packet.seg.len);
}

/*
 * Whether the responses to the oldest messages show that the pod answers several
 * requests in order: the last of them is a trial's, and its request had reached the pod
 * when that answered an earlier one. Else the pod had one at a time. Under the lock;
 * mark_acked was before.
 */
static __always_inline bool response_proves(struct slot *slot, __u32 completed)
{
	bool came = slot_has(slot, slot->came) || completed > 1;

	slot->came = slot->acked;
	return came && slot_message(slot, slot->head + completed - 1)->company == COMPANY_TRIAL;
}

/* The oldest messages are answered. Under the lock. */
static __always_inline void pop_responded(struct scratch *s, struct slot *slot, __u32 completed)
{
	__u64 began = slot_message(slot, slot->head)->taken_ns;
	__u32 lines = 0;

	repeat(i, completed) {
		s->outcomes.status[s->outcomes.count & (PIPELINE_MAX - 1)] = s->answer.statuses[i & (PIPELINE_MAX - 1)];
		lines |= slot_message(slot, slot->head + i)->line;
		done_push(s, slot_message(slot, slot->head + i), DONE_RESPONSE);
	}
	s->answer.lines = lines;
	if (completed)
		s->answer.proofs = response_proves(slot, completed);
	slot->head += completed;
	if (completed)
		slot_served(slot, began, s->now_ns, completed);
}

/*
 * Tells userspace what it waits for, once the slot's lock is released: a place, and that
 * the pod has answered as many trials as were wanted. Where that event is lost the next
 * answer is told of. Returns 0. A function of its own for the size of the stack.
 */
__attribute__((noinline)) int pod_tell(void)
{
	struct scratch *s = scratch_of(HOOK_TC_POD_IN);
	struct slot *slot;
	struct pod *pod;
	__u32 key;

	if (!s)
		return 0;
	slot = slot_entry(s->answer.slot);
	if (!slot)
		return 0;
	key = slot->pod;
	pod = bpf_map_lookup_elem(&pods, &key);
	if (!pod)
		return 0;
	pod_wake(HOOK_TC_POD_IN, pod);
	if (!s->answer.proofs || *(volatile __s32 *)&pod->wanted <= 0)
		return 0;
	if (__sync_fetch_and_add(&pod->wanted, -1) == 1 &&
	    !event_simple(HOOK_TC_POD_IN, EVENT_PROVEN, pod->first_slot, 0))
		*(volatile __s32 *)&pod->wanted = 1;
	return 0;
}

/* Something that userspace must see to: the slot's connection is ending or behaves oddly. */
static __always_inline __u32 slot_ending(struct slot *slot)
{
	switch (slot->state) {
	case SLOT_IDLE:
		slot->state = SLOT_RETIRED;
		return DUTY_ATTENTION;
	case SLOT_BUSY:
		slot->close_after =
			1; /* what is in flight is userspace's, which reads the end too; no more comes to it */
		return DUTY_NOTHING;
	case SLOT_RESPONDING:
	case SLOT_RETIRED:
		return DUTY_ATTENTION;
	}
	return DUTY_NOTHING;
}

/*
 * Bytes beyond a hole pass to the slot's socket, which will have the responses that
 * they are part of: they are read there. Under the lock.
 */
static __always_inline void pod_ahead(const struct conn *c, struct slot *slot, const struct segment *seg)
{
	if (slot->state == SLOT_BUSY)
		slot->state = response_due(c, slot, seg, 1) ? SLOT_PASSING : SLOT_RETIRED;
}

#endif
