/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * pod_in.bpf.c - TC ingress at the pods' interfaces: a complete 2xx response becomes
 * the PUBACK, everything else that a pod sends goes to the slot's socket.
 */
#include "../mech/cut.h"
#include "../mech/flow.h"
#include "../mech/options.h"
#include "../reply/reply.h"
#include "icmp.h"
#include "../trace/trace.h"
#include "../upstream/count.h"
#include "../upstream/response.h"
#include "../upstream/unpark.h"

/* Bytes of responses that may stay unacknowledged while more are to come. */
#define POD_ACK_BYTES 1024
/*
 * A response that comes so long after the slot's previous one is acknowledged at
 * once. What follows on a slot that is used so rarely is likely to come after
 * the sweeper had userspace send an ACK, which costs far more.
 */
#define POD_QUIET_NS  20000000ll

/* One message's consequences. */
static long done_step(__u64 index, void *data)
{
	struct response_ctx *ctx = data;
	struct scratch *s = ctx->s;
	__u32 n = index & (PIPELINE_MAX - 1), kind = s->outcomes.kind[n];
	struct message *m = &s->outcomes.message[n];

	if (kind == DONE_RESPONSE) {
		count_responded(m, s->answer.pod_counter, s->outcomes.status[n], s->now_ns);
		if (tracing())
			trace_answered(n);
	}
	reply_outcome(ctx->skb, s, m, kind);
	return 0;
}

/* The frame, with what s->notice has for its payload, leaves in place of the skb. Returns exit_for. */
static __always_inline int pod_send(struct __sk_buff *skb, struct scratch *s, struct frame *f, enum reason reason)
{
	int verdict = skb_send_small(skb, f, s->notice.bytes);

	if (reason != REASON_COUNT)
		count(HOOK_TC_POD_IN, reason);
	if (verdict < 0)
		return exit_for(REASON_REDIRECT_ERROR, TC_DROP);
	return verdict;
}

/*
 * The segment becomes the answer that s->answer.action calls for: an ACK, with what came twice
 * if it is a duplicate. Returns exit_for. A function of its own, for the size of the stack.
 */
__attribute__((noinline)) int pod_reply(struct __sk_buff *skb)
{
	struct scratch *s = scratch_of(HOOK_TC_POD_IN);
	__u32 now_us = bpf_ktime_get_ns() / 1000, n = 0, options = 0;
	enum reason reason = REASON_CHALLENGE;
	struct sack_block blocks[2];
	struct stamp stamp;
	struct conn *c;
	bool ok = false;

	if (!s)
		return exit_for(REASON_NO_ENTRY, TC_DROP);
	c = conn_entry(s->answer.slot);
	if (!c)
		return exit_for(REASON_NO_ENTRY, TC_DROP);
	bpf_spin_lock(&c->lock);
	if (c->gen == s->answer.gen && conn_live(c)) {
		conn_bare(c, &stamp, now_us);
		if (s->answer.action == RX_ACK)
			n = conn_duplicate(c, &s->packet.seg, stamp.ack, blocks);
		if (n)
			options = sack_option(s->notice.bytes, blocks, n);
		frame_fill(&s->frame, c, &stamp, TH_ACK, options);
		frame_options(&s->frame, options);
		ok = true;
	}
	bpf_spin_unlock(&c->lock);
	if (!ok)
		return exit_for(REASON_RACE, TC_DROP);
	if (s->answer.action == RX_ACK)
		reason = seq_gt(s->packet.seg.seq, s->rx.seq) ? REASON_AHEAD : REASON_OLD_DUPLICATE;
	return pod_send(skb, s, &s->frame, reason);
}

/*
 * Does what the ledger says, once their lock is released. Returns exit_for.
 * A function of its own, so that the verifier follows it once, not once for
 * each outcome.
 */
__attribute__((noinline)) int pod_act(struct __sk_buff *skb)
{
	struct scratch *s = scratch_of(HOOK_TC_POD_IN);
	struct response_ctx ctx = { .skb = skb, .s = s };
	enum rx_action action;
	__u32 duties;

	if (!s)
		return exit_for(REASON_NO_ENTRY, TC_DROP);
	action = s->answer.action;
	duties = s->answer.duties;
	if (duties & DUTY_ATTENTION) {
		count(HOOK_TC_POD_IN, REASON_SLOT_RETIRED);
		event_simple(HOOK_TC_POD_IN, EVENT_SLOT, s->answer.slot, s->answer.gen);
	}
	if ((duties & DUTY_POD_ACK) && s->responses.completed && action != RX_REMOVE)
		skb_send_clone(skb, &s->shape, SHAPE_BARE, HOOK_TC_POD_IN, &s->frame);
	if (s->outcomes.count) {
		notice_clear(&s->notice);
		bpf_loop(s->outcomes.count, done_step, &ctx, 0);
		if (afresh(s->notice.device) != NO_INDEX) {
			if (!afresh(s->notice.dups) &&
			    (action == RX_ABSORB || (action == RX_REMOVE && !(duties & DUTY_POD_ACK))))
				return pod_send(skb, s, &s->notice.frame, REASON_COUNT);
			notice_flush(skb, s);
		}
	}
	switch (action) {
	case RX_ACK:
	case RX_CHALLENGE:
		return pod_reply(skb);
	case RX_PASS:
		if (s->rx.len < s->packet.seg.len && skb_cut(skb, &s->packet, s->work, s->rx.len))
			return exit_for(REASON_CUT_ERROR, TC_DROP);
		if (skb_translate(skb, &s->packet, s->rx.seq, s->rx.ack, s->rx.wnd) ||
		    (s->answer.blocks && skb_options_store(skb, &s->packet, &s->sack)))
			return exit_for(REASON_TRANSLATE_ERROR, TC_DROP);
		return exit_for(s->answer.passed, TC_PASS);
	case RX_PASS_RAW:
		return exit_for(REASON_RAW, TC_PASS);
	case RX_REMOVE:
		if (!(duties & DUTY_POD_ACK)) /* device_notify has counted each response */
			return s->responses.completed ? exit_counted(TC_DROP) : exit_for(REASON_RESPONSE_PART, TC_DROP);
		return pod_send(skb, s, &s->frame, s->responses.completed ? REASON_COUNT : REASON_RESPONSE_PART);
	case RX_ABSORB:
		return exit_for(REASON_ACK_ABSORBED, TC_DROP);
	default:
		return exit_for(REASON_CHALLENGE, TC_DROP);
	}
}

/*
 * Reads the segment's SACK blocks. They are about requests, of which the local socket knows nothing: if it
 * is passed the segment it is shown none. Returns 0. A function of its own, so that the verifier follows it once.
 */
__attribute__((noinline)) int pod_blocks(struct __sk_buff *skb)
{
	struct scratch *s = scratch_of(HOOK_TC_POD_IN);

	if (!s)
		return 0;
	s->answer.blocks = !skb_options(skb, &s->packet, &s->sack) && s->sack.came;
	s->sack.count = 0;
	return 0;
}

/* Sends again what the scratch's piece names. Returns 0. A function of its own for the size of the stack. */
__attribute__((noinline)) int pod_resend(struct __sk_buff *skb)
{
	struct scratch *s = scratch_of(HOOK_TC_POD_IN);

	if (s)
		requests_resend(skb, s, HOOK_TC_POD_IN);
	return 0;
}

/*
 * Sends again the oldest requests that the pod has not acknowledged: as many as can
 * have left in one segment. Returns 0. A function of its own, so that the verifier
 * follows it once.
 */
__attribute__((noinline)) int pod_resend_missing(struct __sk_buff *skb)
{
	struct scratch *s = scratch_of(HOOK_TC_POD_IN);
	__u32 index, pod_key, mss, now_ms = bpf_ktime_get_ns() / 1000000;
	struct slot *slot;
	struct conn *c;
	struct pod *pod;

	if (!s)
		return 0;
	index = s->answer.slot;
	c = conn_entry(index);
	slot = slot_entry(index);
	if (!c || !slot)
		return 0;
	pod_key = slot->pod;
	pod = bpf_map_lookup_elem(&pods, &pod_key);
	if (!pod)
		return 0;
	mss = slot_mss(pod, c, now_ms);
	bpf_spin_lock(&c->lock);
	requests_missing(&s->piece, index, c, slot, mss, now_ms);
	bpf_spin_unlock(&c->lock);
	return pod_resend(skb);
}

static long pod_line_step(__u64 index, void *data)
{
	struct scratch *s = *(struct scratch **)data;
	__u32 n = index & (PIPELINE_MAX - 1);

	if (index >= afresh(s->outcomes.count))
		return 1;
	if (s->outcomes.kind[n] == DONE_RESPONSE && s->outcomes.message[n].line)
		line_end(s->outcomes.message[n].line, HOOK_TC_POD_IN);
	return 0;
}

/* Those behind answered messages in their lines may leave, to whatever pod. */
static __always_inline void pod_lines(struct __sk_buff *skb, struct scratch *s)
{
	struct scratch *arg = s;

	bpf_loop(PIPELINE_MAX, pod_line_step, &arg, 0);
	unpark_all(skb, s->answer.queue, NO_INDEX, HOOK_TC_POD_IN, s->packet.ipv6);
}

/*
 * Messages that wait for a slot of this one's pod leave if one is free. Places of others are not looked for: who
 * frees one of those does this, too.
 */
static __always_inline void pod_unpark(struct __sk_buff *skb, const struct scratch *s)
{
	struct queue *q = queue_entry(s->answer.queue);

	if (q && *(volatile __u32 *)&q->count)
		unpark_all(skb, s->answer.queue, s->answer.pod, HOOK_TC_POD_IN, s->packet.ipv6);
}

/* What is no TCP segment. Returns exit_for. */
static __always_inline int pod_other(struct __sk_buff *skb, struct scratch *s)
{
	int verdict = pod_icmp(skb);

	if (afresh(s->piece.number) != afresh(s->piece.end))
		pod_resend(skb);
	return verdict;
}

/* pod_segment's verdict where pod_act has the last word. */
#define POD_ACT 100

/* A pod's segment while it goes through the ledger of its slot. */
struct pod_look {
	struct conn *c;
	struct slot *slot;
	__u32 begun;  /* what was left of a response when following it began */
	__u32 parsed; /* bytes of the payload that were read */
	__u32 len;    /* of the payload, and */
	__u32 fin;    /* its FIN, as they came */
	enum response_verdict verdict;
	enum rx_action action;
	enum reason passed;
	__u32 duties;
};

/* Reads the responses in the segment's payload, if some are due. */
static __always_inline void pod_read(struct __sk_buff *skb, struct scratch *s, struct pod_look *x)
{
	struct response_ctx ctx = { .skb = skb, .s = s };
	const struct slot *slot = x->slot;

	memset(&s->responses, 0, sizeof(s->responses));
	if (!s->packet.seg.len || (slot->state != SLOT_BUSY && slot->state != SLOT_RESPONDING))
		return;
	x->begun = slot->left;
	s->responses.off = s->packet.payload;
	s->responses.end = s->packet.payload + s->packet.seg.len;
	s->responses.left = x->begun;
	s->responses.close = x->begun ? slot->close_after : 0;
	s->responses.status = slot->status;
	bpf_loop(RESPONSE_STEPS, response_step, &ctx, 0);
	x->parsed = s->responses.off - s->packet.payload;
}

/* Responses were removed from the segment's front: what that means for the slot. What follows them passes. Under the lock. */
static __always_inline void pod_removed(struct scratch *s, struct pod_look *x)
{
	struct segment *seg = &s->packet.seg;
	struct slot *slot = x->slot;
	struct conn *c = x->c;
	bool rest = x->parsed<x->len, quiet = (__s64)(s->now_ns - slot->responded_ns)> POD_QUIET_NS;

	pop_responded(s, slot, s->responses.completed);
	slot->left = s->responses.left;
	slot->close_after = s->responses.close && s->responses.left;
	slot->closed |= s->responses.closing != 0;
	slot->status = s->responses.status;
	slot->state = slot->left ? SLOT_RESPONDING : slot_in_flight(slot) ? SLOT_BUSY : SLOT_IDLE;
	if (s->responses.closing || x->fin || c->state != CONN_OPEN || (c->flags & (CONN_FIN_SEEN | CONN_FIN_SENT))) {
		slot->state = SLOT_RETIRED;
		x->duties |= DUTY_ATTENTION;
	} else if (rest) {
		slot->state = SLOT_PASSING;
	}
	if (slot->left || (quiet && !slot_in_flight(slot) && c->state == CONN_OPEN) ||
	    (slot_in_flight(slot) && seq_gt(conn_ack(c), c->rx_acked + POD_ACK_BYTES)))
		x->duties |= DUTY_POD_ACK;
	if (rest) {
		seg->remove = 0;
		s->packet.payload += x->parsed;
		s->packet.front += x->parsed;
		seg->seq += x->parsed;
		seg->len = x->len - x->parsed;
		x->action = conn_rx_rest(c, seg, &s->rx);
	}
}

/* Nothing was removed from the segment: what that means for the slot. Under the lock. */
static __always_inline void pod_unread(struct scratch *s, struct pod_look *x)
{
	const struct segment *seg = &s->packet.seg;
	struct slot *slot = x->slot;

	if (x->action == RX_PASS && s->rx.ahead)
		pod_ahead(x->c, slot, seg);
	if (seg->len && slot->state == SLOT_RETIRED)
		x->passed = REASON_LATE_RESPONSE;
	if (x->action == RX_PASS && (seg->len || x->fin || (seg->flags & TH_RST)) &&
	    (slot->state == SLOT_RETIRED || (seg->len && slot->state == SLOT_IDLE) || x->fin || (seg->flags & TH_RST)))
		x->duties |= slot_ending(slot);
}

/* The segment goes through the ledger. Under the lock. */
static __always_inline void pod_account(struct scratch *s, struct pod_look *x)
{
	struct segment *seg = &s->packet.seg;
	struct slot *slot = x->slot;
	struct conn *c = x->c;

	x->fin = seg->flags & TH_FIN;
	x->len = seg->len;
	s->answer.due = c->rx_nxt;
	/*
	 * Of a response that is half removed the socket cannot have the other half.
	 * On an idle slot nothing is due: what comes next in order ends it.
	 */
	seg->in_order = slot->state == SLOT_RESPONDING || slot->state == SLOT_IDLE;
	if (x->len && !(seg->flags & (TH_SYN | TH_RST)) && conn_next(c, seg->seq) && !ledger_full(&c->rx, LEDGER_RING))
		x->verdict = response_verdict(c, slot, seg, &s->responses, x->begun, x->parsed);
	if (x->verdict == RESPONSE_REMOVE) {
		seg->remove = 1;
		seg->len = x->parsed;
		/* the response first: the FIN comes again, or the slot is closed before */
		seg->flags &= ~TH_FIN;
	}
	if (x->verdict != RESPONSE_DROP) {
		s->answer.lost = recovery_ack(&slot->recovery, c, seg);
		x->action = conn_rx(c, seg, &s->rx, s->now_ns / 1000000);
	} else {
		x->action = RX_DROP;
	}
	/* while the local socket has not acknowledged bytes in front of responses, none of them settles */
	if (x->action == RX_REMOVE)
		ledger_removed(&c->rx);
	mark_acked(s, c, slot, x->action == RX_REMOVE ? s->responses.completed : 0,
		   x->action == RX_ABSORB ? DONE_ACKED : DONE_MARKED);
	if (x->action == RX_REMOVE) {
		pod_removed(s, x);
	} else if (x->verdict == RESPONSE_REMOVE) {
		slot->state = SLOT_RETIRED; /* accounted for it, but the ledger refused it */
		x->duties |= DUTY_ATTENTION;
	} else {
		pod_unread(s, x);
	}
	if (x->action == RX_PASS && s->rx.ahead)
		x->passed = REASON_AHEAD;
	else if (seg->len && slot->state == SLOT_PASSING)
		x->passed = REASON_RESPONSE_HANDED;
}

/* What the ledger says is left in the hook's scratch. Returns POD_ACT, or exit_for. front: known bytes at the segment's front. */
static __always_inline int pod_ledger(struct scratch *s, struct pod_look *x, struct pod *pod, __u32 front)
{
	__u32 index = s->answer.slot, gen;
	struct segment *seg = &s->packet.seg;
	struct conn *c = x->c;
	struct stamp stamp;
	bool moved;

	bpf_spin_lock(&c->lock);
	gen = c->gen;
	moved = front && (seg->seq != c->rx_nxt || !conn_front_ok(c, seg->seq - front));
	if (!moved && c->tuple.remote_port == s->packet.tuple.remote_port &&
	    c->tuple.local_port == s->packet.tuple.local_port) {
		pod_account(s, x);
		slot_show(pod, index, x->slot);
		if (x->action == RX_ACK)
			s->rx.seq = c->rx_nxt;
		if (x->duties & DUTY_POD_ACK) {
			conn_bare(c, &stamp, s->now_ns / 1000);
			frame_fill(&s->frame, c, &stamp, TH_ACK, 0);
		}
	}
	bpf_spin_unlock(&c->lock);
	attend(c, index);
	pod_tell();
	if (moved || x->verdict == RESPONSE_DROP)
		return exit_for(REASON_RACE, TC_DROP);
	s->answer.action = x->action;
	s->answer.duties = x->duties;
	s->answer.passed = x->passed;
	s->answer.gen = gen;
	s->answer.queue = pod->queue;
	return POD_ACT;
}

/*
 * A packet goes through the ledger of its slot's connection. Returns exit_for, or POD_ACT:
 * the scratch says what is to be done. A function of its own, for the size of the stack.
 */
__attribute__((noinline)) int pod_segment(struct __sk_buff *skb)
{
	struct pod_look x = { .verdict = RESPONSE_NONE, .action = RX_PASS_RAW, .passed = REASON_TRANSLATED };
	struct scratch *s = scratch_of(HOOK_TC_POD_IN);
	__u32 index, front = 0, pod_key;
	struct segment *seg;
	struct slot *slot;
	struct pod *pod;
	struct conn *c;

	if (!s)
		return TC_PASS;
	if (skb->mark & knob_mark)
		skb->mark &= ~knob_mark;
	if (skb_parse(skb, true, &s->packet) != PARSE_TCP)
		return pod_other(skb, s);
	c = x.c = flow_find(&s->packet.tuple, &index);
	if (!c || index >= knob_slots)
		return TC_PASS;
	slot = x.slot = slot_entry(index);
	if (!slot)
		return exit_for(REASON_NO_ENTRY, TC_PASS);
	if (!conn_live(c))
		return exit_for(REASON_NOT_OPEN, TC_PASS);
	pod_key = slot->pod;
	pod = bpf_map_lookup_elem(&pods, &pod_key);
	if (!pod)
		return exit_for(REASON_NO_ENTRY, TC_PASS);
	seg = &s->packet.seg;
	if (skb_corrupt(skb, &s->packet, s->work, c))
		return exit_for(REASON_BAD_CHECKSUM, TC_PASS);
	if (seg->len && seg->seq != c->rx_nxt) {
		bpf_spin_lock(&c->lock);
		front = conn_front(c, seg);
		bpf_spin_unlock(&c->lock);
		packet_advance(&s->packet, front);
	}
	s->answer.blocks = 0;
	if (!s->packet.plain)
		pod_blocks(skb);
	s->answer.lost = 0;
	s->answer.proofs = 0;
	s->answer.lines = 0;
	s->answer.slot = index;
	s->answer.pod = pod_key;
	s->answer.pod_counter = pod->counter;
	s->outcomes.count = 0;
	s->now_ns = bpf_ktime_get_ns();
	pod_read(skb, s, &x);
	return pod_ledger(s, &x, pod, front);
}

/* What becomes of a packet from a pod: exit_for. */
static __always_inline int pod_in(struct __sk_buff *skb, struct scratch *s)
{
	int exit = pod_segment(skb);

	if (exit != POD_ACT)
		return exit;
	if (afresh(s->answer.lines))
		pod_lines(skb, s);
	else
		pod_unpark(skb, s);
	if (afresh(s->answer.lost))
		pod_resend_missing(skb);
	return pod_act(skb);
}

/* TC ingress of the pod interfaces (struct __sk_buff). */
SEC("tc")
int tc_pod_in(struct __sk_buff *skb)
{
	struct scratch *s = scratch_of(HOOK_TC_POD_IN);

	return s ? leave(HOOK_TC_POD_IN, pod_in(skb, s)) : TC_PASS;
}
