/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * device_in.h - TC ingress at the node interface: everything that XDP left.
 * Takes a PUBLISH (XDP off, unsupported, or headroom too small), keeps the
 * ledger of what passes, answers for what the programs took.
 */
#include "../include/keep.h"
#include "../include/park.h"
#include "../include/resend.h"
#include "../include/socket.h"
#include "icmp.h"
#include "listener.h"

/*
 * A retransmission this soon is no sign of a loss between us and the pod, only
 * of a function that takes its time (tail loss probes come after two round
 * trips); a real one comes again, at the device's RTO.
 */
#define REINJECT_MIN_MS 100

/* device_rest's verdicts where device_close_up and device_resend have the last word. */
#define REST_CLOSE_UP 100
#define REST_RESEND   101
#define REST_REPLY    102

/*
 * The request of an open graft of the connection s->device, s->device_gen goes out again, from its
 * buffer. Returns the TC verdict, or REST_RESEND.
 */
static __always_inline int reinject(struct __sk_buff *skb, struct scratch *s, __u32 now_ms)
{
	__u32 index = s->rx.graft.who, gen, len = 0, number = 0, pod_key;
	struct slot *slot = slot_entry(index);
	struct conn *sc = conn_entry(index);
	struct request *r = NULL;
	struct stamp stamp;
	struct pod *pod;

	if (!slot || !sc)
		return counted(HOOK_TC_DEVICE_IN, REASON_NO_ENTRY, TC_DROP);
	pod_key = slot->pod;
	pod = bpf_map_lookup_elem(&pods, &pod_key);
	if (!pod)
		return counted(HOOK_TC_DEVICE_IN, REASON_NO_ENTRY, TC_DROP);
	bpf_spin_lock(&sc->lock);
	gen = sc->gen;
	if (index < knob_slots && (slot->state == SLOT_BUSY || slot->state == SLOT_RESPONDING)) {
		repeat(i, slot_in_flight(slot)) {
			struct message *m = slot_message(slot, slot->head + i);

			if (m->device_seq != s->rx.graft.seq || m->device != s->device ||
			    m->device_gen != s->device_gen || m->acked)
				continue;
			if ((__s32)(now_ms - (__u32)(m->taken_ns / 1000000)) < REINJECT_MIN_MS)
				break;
			conn_stamp(sc, &stamp);
			stamp.seq = m->request_seq;
			number = slot->head + i;
			len = m->request_len;
			m->sent_ms = now_ms;
			m->again = 1;
			frame_fill(&s->frame, sc, &stamp, TH_ACK | TH_PSH, len);
			break;
		}
	}
	bpf_spin_unlock(&sc->lock);
	if (len > slot_mss(pod, sc, now_ms)) { /* it was made when the path took longer segments */
		requests_lost(&s->piece, index, gen, number, number + 1);
		return REST_RESEND;
	}
	if (len)
		r = request_buffer(index, number);
	if (!r || skb_make_request(skb, &s->frame, r, len) || !request_live(sc, slot, gen, number))
		return counted(HOOK_TC_DEVICE_IN, REASON_DUP_REQUEST, TC_DROP);
	count(HOOK_TC_DEVICE_IN, REASON_REINJECTED);
	return skb_to_pod(index, &s->frame);
}

/*
 * Whether a segment whose messages were taken is also news of the local socket's bytes
 * (conn_news): 1 or 0. A function of its own, so that the verifier follows it once.
 */
__attribute__((noinline)) int device_news(__u32 conn)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	struct conn *c = conn_entry(conn);
	int news = 0;

	if (!s || !c || c->tx_kuna == c->tx_knxt)
		return 0;
	bpf_spin_lock(&c->lock);
	if (c->gen == s->device_gen)
		news = conn_news(c, &s->packet.seg, &s->rx, s->packet.seg.sack ? s->sack.count : 0);
	bpf_spin_unlock(&c->lock);
	return news;
}

/*
 * All of the segment was taken, but it also acknowledged bytes of the local socket: the skb becomes
 * the bare ACK that the socket waits for, as s->rx says. Returns the TC verdict. A function of its
 * own for the verifier, and for the size of the stack.
 */
__attribute__((noinline)) int device_local_ack(struct __sk_buff *skb, __u32 conn)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	struct conn *c = conn_entry(conn);
	__u32 options = 0;
	struct stamp stamp;

	if (!s || !c)
		return TC_DROP;
	if (s->packet.seg.sack && s->sack.count)
		options = sack_option(s->notice.bytes, s->sack.blocks, s->sack.count);
	stamp.seq = s->rx.seq;
	stamp.ack = s->rx.ack;
	stamp.wnd = s->rx.wnd;
	bpf_spin_lock(&c->lock);
	frame_fill_local(&s->frame, c, &stamp, options);
	bpf_spin_unlock(&c->lock);
	if (skb_make_small(skb, &s->frame, s->notice.bytes))
		count(HOOK_TC_DEVICE_IN, REASON_REDIRECT_ERROR);
	skb->mark &= ~knob_mark;
	return TC_PASS;
}

/* Passes the segment to the local stack with what s->rx says. */
static __always_inline int device_pass(struct __sk_buff *skb, struct scratch *s)
{
	if (skb_translate(skb, &s->packet, s->rx.seq, s->rx.ack, s->rx.wnd) ||
	    (s->packet.seg.sack && skb_options_store(skb, s)))
		return counted(HOOK_TC_DEVICE_IN, REASON_TRANSLATE_ERROR, TC_DROP);
	return counted(HOOK_TC_DEVICE_IN, s->rx.ahead ? REASON_AHEAD : REASON_TRANSLATED, TC_PASS);
}

/*
 * The segment becomes the answer that s->action calls for: an ACK, with what came
 * twice if it is a duplicate, and with the PUBACK of s->rx.graft (RX_RESEND).
 * Returns the TC verdict. A function of its own, so that the verifier follows it once.
 */
__attribute__((noinline)) int device_reply(struct __sk_buff *skb, __u32 conn)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	__u32 now_us = bpf_ktime_get_ns() / 1000, n = 0, options = 0, word;
	struct conn *c = conn_entry(conn);
	struct sack_block blocks[2];
	struct stamp stamp;
	bool ok = false;
	__u32 action;
	int verdict;

	if (!s || !c)
		return TC_DROP;
	action = s->action;
	bpf_spin_lock(&c->lock);
	if (conn_live(c) && c->tuple.remote_port == s->packet.tuple.remote_port) {
		conn_bare(c, &stamp, now_us);
		if (action != RX_CHALLENGE)
			n = conn_duplicate(c, &s->packet.seg, stamp.ack, blocks);
		if (n)
			options = sack_option(s->notice.bytes, blocks, n);
		if (action == RX_RESEND) {
			stamp.seq = s->rx.graft.seq;
			word = puback_word(&s->rx.graft);
			memcpy(s->notice.bytes + (options & 31), &word, 4);
			frame_fill(&s->frame, c, &stamp, TH_ACK | TH_PSH, options + 4);
		} else {
			frame_fill(&s->frame, c, &stamp, TH_ACK, options);
		}
		frame_options(&s->frame, options);
		ok = true;
	}
	bpf_spin_unlock(&c->lock);
	if (!ok)
		return counted(HOOK_TC_DEVICE_IN, REASON_RACE, TC_DROP);
	verdict = skb_send_small(skb, &s->frame, s->notice.bytes);
	return verdict < 0 ? counted(HOOK_TC_DEVICE_IN, REASON_REDIRECT_ERROR, TC_DROP) : verdict;
}

/* Acts on what the state machine said. */
static __always_inline int device_act(struct __sk_buff *skb, struct scratch *s, enum rx_action action, __u32 now_ms)
{
	struct packet *p = &s->packet;

	switch (action) {
	case RX_PASS:
		if (s->rx.len < p->seg.len) {
			if (skb_cut(skb, s, s->rx.len))
				return counted(HOOK_TC_DEVICE_IN, REASON_CUT_ERROR, TC_DROP);
		}
		return device_pass(skb, s);
	case RX_PASS_RAW:
		return counted(HOOK_TC_DEVICE_IN, REASON_RAW, TC_PASS);
	case RX_ABSORB:
		return counted(HOOK_TC_DEVICE_IN, REASON_ACK_ABSORBED, TC_DROP);
	case RX_REINJECT:
		return reinject(skb, s, now_ms);
	case RX_RESEND:
		count(HOOK_TC_DEVICE_IN, REASON_PUBACK_RESENT);
		break;
	case RX_ACK:
		count(HOOK_TC_DEVICE_IN, seq_ge(p->seg.seq, s->rx.seq) ? REASON_AHEAD : REASON_OLD_DUPLICATE);
		break;
	case RX_CHALLENGE:
		count(HOOK_TC_DEVICE_IN, REASON_CHALLENGE);
		break;
	default:
		return counted(HOOK_TC_DEVICE_IN, REASON_CHALLENGE, TC_DROP);
	}
	s->action = action;
	return REST_REPLY;
}

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
	skb_send_clone(skb, s, HOOK_TC_DEVICE_IN, SHAPE_GROUP, &s->group.frame);
	s->group.count = 0;
	s->burst_sent++;
}

/* Goes on behind the message that was just taken. Returns 1 if it was the segment's last, else 0. */
static __always_inline long burst_next(struct scratch *s)
{
	if (afresh(s->kept))
		keep_end(s);
	if (s->publish.length >= s->packet.seg.len) {
		s->burst_last = 1;
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
	count_taken(s, HOOK_TC_DEVICE_IN, REASON_TAKEN);
	if (s->far) { /* what is done is to be acknowledged, whatever becomes of the segment's rest */
		s->early++;
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

	s->vain = 0;
	bpf_loop(BURST_MAX, burst_step, b, 0);
	if (afresh(s->vain))
		park_note(s, afresh(s->queue));
	if (afresh(s->bad) != REASON_NO_SLOT)
		return 1;
	s->bad = park_message(b->skb, b->t.conn);
	if (afresh(s->bad))
		return 1;
	count_taken(s, HOOK_TC_DEVICE_IN, REASON_PARKED);
	s->early++;
	return burst_next(s);
}

/* The last message's request, and those that leave with it, take the place of the skb. */
static __always_inline int burst_end(struct __sk_buff *skb, struct scratch *s, struct burst *b)
{
	if (group_make(skb, &s->group))
		return counted(HOOK_TC_DEVICE_IN, REASON_REDIRECT_ERROR, TC_DROP);
	if (device_news(b->t.conn)) {
		/* the skb is a request by now: a copy goes to the pod */
		if (bpf_clone_redirect(skb, s->group.frame.ifindex, 0))
			count(HOOK_TC_DEVICE_IN, REASON_REDIRECT_ERROR);
		return device_local_ack(skb, b->t.conn);
	}
	if (s->burst_sent) /* behind the clones, not past them */
		return bpf_redirect(s->group.frame.ifindex, 0);
	return skb_to_pod(s->group.slot, &s->group.frame);
}

/* Slots may have become free since messages were parked: in each queue that the segment has some in. */
static __always_inline void device_unpark(struct __sk_buff *skb, struct scratch *s)
{
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < SEGMENT_QUEUES; i++)
	{
		if (i >= afresh(s->queue_count))
			break;
		unpark_all(skb, afresh(s->queues[i]), NO_INDEX, HOOK_TC_DEVICE_IN, afresh(s->packet.ipv6));
	}
}

/*
 * All of the segment was taken, and some of it is parked, or on its way to a pod that is far: the device is acknowledged what it has sent,
 * since nothing else may leave to it for long. If the segment was also news of the local socket's
 * bytes, the skb becomes the bare ACK that the socket waits for. Returns the TC verdict. A function of
 * its own for the verifier, and for the size of the stack.
 */
__attribute__((noinline)) int device_early(struct __sk_buff *skb, __u32 conn)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	__u32 now_us = bpf_ktime_get_ns() / 1000, before;
	struct conn *c = conn_entry(conn);
	bool ack = false, news;
	struct stamp stamp;
	int verdict;

	if (!s || !c)
		return TC_DROP;
	news = device_news(conn);
	bpf_spin_lock(&c->lock);
	if (c->gen == s->device_gen && conn_live(c)) {
		before = c->rx_acked;
		conn_bare(c, &stamp, now_us);
		ack = stamp.ack != before;
		frame_fill(&s->frame, c, &stamp, TH_ACK, 0);
	}
	bpf_spin_unlock(&c->lock);
	attend(c, conn);
	if (news) {
		s->group.frame = s->frame;
		if (ack)
			skb_send_clone(skb, s, HOOK_TC_DEVICE_IN, SHAPE_BARE, &s->group.frame);
		return device_local_ack(skb, conn);
	}
	if (!ack)
		return TC_DROP;
	verdict = skb_send_small(skb, &s->frame, s->notice.bytes);
	return verdict < 0 ? counted(HOOK_TC_DEVICE_IN, REASON_REDIRECT_ERROR, TC_DROP) : verdict;
}

/*
 * Passes what is left of the segment without its front. Returns the TC verdict.
 * A function of its own for the verifier, and for the size of the stack.
 */
__attribute__((noinline)) int device_close_up(struct __sk_buff *skb)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);

	if (!s)
		return TC_DROP;
	if (skb_close_up(skb, s, s->frame.pseudo_sum))
		return counted(HOOK_TC_DEVICE_IN, REASON_CUT_ERROR, TC_DROP);
	return device_pass(skb, s);
}

/* Sends the request again that reinject has named. Returns the TC verdict. A function of its own for the size of the stack. */
__attribute__((noinline)) int device_resend(struct __sk_buff *skb)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);

	if (!s)
		return TC_DROP;
	requests_resend(skb, s, HOOK_TC_DEVICE_IN);
	return counted(HOOK_TC_DEVICE_IN, REASON_REINJECTED, TC_DROP);
}

/* Whether the server ends the connection of a client whose message was refused for this: none behind it is taken. */
static __always_inline bool device_invalid(enum reason reason)
{
	return reason == REASON_MALFORMED || reason == REASON_TOPIC_NAME || reason == REASON_PACKET_ID;
}

/*
 * Notes what the socket is passed a second time: the front of the segment, or all
 * that passes of it. Returns 0. A function of its own, so that the verifier follows
 * it once.
 */
__attribute__((noinline)) int device_again(__u32 conn)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	struct conn *c = conn_entry(conn);
	__u32 front, len;

	if (!s || !c)
		return 0;
	front = s->packet.front;
	len = front ? front : s->rx.len;
	bpf_spin_lock(&c->lock);
	if (c->tuple.remote_port == s->packet.tuple.remote_port)
		again_note(&c->rx_again, s->packet.seg.seq - front, s->rx.seq - front, len);
	bpf_spin_unlock(&c->lock);
	return 0;
}

/*
 * What a segment with TCP options, or a duplicate ACK, says of what was sent: its
 * SACK blocks are translated. A header of NOPs and SACK blocks is a plain one from
 * here on. Returns 1 if PUBACKs may be missing, else 0. A function of its own, so that
 * the verifier follows it once.
 */
__attribute__((noinline)) int device_blocks(struct __sk_buff *skb, __u32 conn)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	struct conn *c = conn_entry(conn);
	struct packet *p;
	struct sack *k;
	struct options_ctx ctx;
	bool blocks = false;
	int shown = 0;

	if (!s || !c)
		return 0;
	p = &s->packet;
	k = ctx.k = &s->sack;
	k->came = 0;
	if (p->plain && !loss_is_duplicate(c, p->seg.ack, p->seg.wnd))
		return 0;
	if (!p->plain && !skb_options(skb, s))
		p->plain = !k->other;
	p->seg.sack = k->came;
	k->count = 0;
	bpf_spin_lock(&c->lock);
	if (conn_live(c) && c->tuple.remote_port == p->tuple.remote_port && conn_ack_ok(c, &p->seg)) {
		if (k->came) {
			sack_admit(k, c, p->seg.ack);
			blocks = true;
		} else if (!p->seg.len && p->seg.flags == TH_ACK && loss_is_duplicate(c, p->seg.ack, p->seg.wnd)) {
			shown = loss_duplicate(c, k);
		}
	}
	bpf_spin_unlock(&c->lock);
	if (blocks) {
		bpf_loop(k->graft_count, options_strip, &ctx, 0);
		sack_keep(k, p->seg.ack);
		shown = k->top != k->una;
	}
	return shown;
}

/*
 * PUBACKs that device_blocks has found missing leave at once, in a clone. Returns
 * 0. A function of its own, so that the verifier follows it once.
 */
__attribute__((noinline)) int device_repair(struct __sk_buff *skb, __u32 conn)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	__u32 now_ms = bpf_ktime_get_ns() / 1000000;
	struct conn *c = conn_entry(conn);
	struct stamp stamp;

	if (!s || !c)
		return 0;
	s->pubacks.len = 0;
	bpf_spin_lock(&c->lock);
	if (c->state == CONN_OPEN && c->tuple.remote_port == s->packet.tuple.remote_port) {
		if (s->sack.came)
			loss_blocks(c, &s->sack);
		loss_collect(c, &s->sack, s->packet.seg.ack, now_ms, &s->pubacks);
		if (afresh(s->pubacks.len)) {
			conn_stamp(c, &stamp);
			stamp.seq = s->pubacks.seq;
			frame_fill(&s->frame, c, &stamp, TH_ACK | TH_PSH, afresh(s->pubacks.len));
		}
	}
	bpf_spin_unlock(&c->lock);
	if (!afresh(s->pubacks.len))
		return 0;
	count(HOOK_TC_DEVICE_IN, REASON_PUBACK_RESENT);
	skb_send_clone(skb, s, HOOK_TC_DEVICE_IN, SHAPE_REPAIR, &s->frame);
	return 0;
}

/*
 * What was not taken goes through the ledger of the connection with this conn
 * index. Returns the TC verdict, or REST_*. A function of its own, so that
 * the verifier follows it once.
 */
__attribute__((noinline)) int device_rest(struct __sk_buff *skb, __u32 conn)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	struct conn *c = conn_entry(conn);
	enum rx_action action = RX_PASS_RAW;
	bool framed, known, moved = false, bare = false;
	__u32 now_ms, front;
	struct device *d = device_entry(conn);
	struct packet *p;

	if (!s || !c || !d)
		return counted(HOOK_TC_DEVICE_IN, REASON_NO_ENTRY, TC_DROP);
	p = &s->packet;
	front = p->front;
	framed = p->seg.len && p->seg.seq == c->rx_nxt && !(c->flags & CONN_LOST) && !device_invalid(s->bad);
	s->began = d->framing;
	if (framed) {
		s->framing = s->began;
		skb_framing(skb, s, 0, true);
	}
	now_ms = bpf_ktime_get_ns() / 1000000;
	bpf_spin_lock(&c->lock);
	if (conn_live(c) && c->tuple.remote_port == p->tuple.remote_port) {
		known = p->seg.seq == c->rx_nxt;
		moved = front && !known;
		/* placed below the next byte, the front must not be new to the socket */
		bare = front && !moved && !conn_front_ok(c, p->seg.seq - front);
		s->frame.pseudo_sum = c->pseudo_sum;
		s->device = conn;
		s->device_gen = c->gen;
		s->again = p->seg.len && (c->flags & CONN_SACK) && seq_lt(p->seg.seq - front, c->rx_nxt);
		action = moved ? RX_DROP : conn_rx(c, &p->seg, &s->rx, now_ms);
		if (action == RX_PASS && known && p->seg.len) {
			if (framed && s->rx.len == p->seg.len && !s->framing.bad &&
			    framing_same(&d->framing, &s->began))
				d->framing = s->framing;
			else
				c->flags |= CONN_LOST;
		}
		if (action == RX_ACK)
			s->rx.seq = c->rx_nxt;
	}
	bpf_spin_unlock(&c->lock);
	if (moved)
		return counted(HOOK_TC_DEVICE_IN, REASON_RACE, TC_DROP);
	if (bare && action == RX_PASS)
		return REST_CLOSE_UP;
	if (action == RX_PASS && afresh(s->again))
		device_again(conn);
	return device_act(skb, s, action, now_ms);
}

/*
 * The segment begins with the remainder of a packet that the local socket is
 * reading, and goes on: the remainder is recorded as passed, and what follows handled as
 * a segment of its own. Returns 1 if it is so, else 0. A function of its own, so
 * that the verifier follows it once.
 */
__attribute__((noinline)) int device_pass_remainder(struct __sk_buff *skb, __u32 conn)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	struct conn *c = conn_entry(conn);
	__u32 now_ms;
	struct device *d = device_entry(conn);
	struct segment one;
	struct packet *p;
	int passed = 0;

	if (!s || !c || !d)
		return 0;
	p = &s->packet;
	one = p->seg;
	s->began = d->framing;
	s->framing = s->began;
	one.len = skb_remainder(skb, s);
	if (!one.len)
		return 0;
	now_ms = bpf_ktime_get_ns() / 1000000;
	bpf_spin_lock(&c->lock);
	if (c->state == CONN_OPEN && c->tuple.remote_port == p->tuple.remote_port && conn_next(c, one.seq) &&
	    framing_same(&d->framing, &s->began) && conn_ack_ok(c, &one) &&
	    !(c->flags & (CONN_LOST | CONN_NO_TAKE | CONN_BROKEN)) && conn_room(c, one.seq) >= (__s32)one.len &&
	    conn_rx(c, &one, &s->rx, now_ms) == RX_PASS) {
		d->framing = s->framing;
		passed = 1;
	}
	bpf_spin_unlock(&c->lock);
	if (passed)
		packet_advance(p, one.len);
	return passed;
}

/*
 * A SYN on a 4-tuple that is still known: the stack may answer it with a
 * challenge ACK (RFC 9293 section 3.10.7.4, RFC 5961 section 4), which tells
 * nothing new but must leave.
 */
static __always_inline void note_syn(struct tuple *tuple)
{
	__u32 conn;
	struct conn *c = flow_find(tuple, &conn);

	if (!c || conn < knob_slots)
		return;
	bpf_spin_lock(&c->lock);
	if (conn_live(c) && c->tuple.remote_port == tuple->remote_port)
		c->flags |= CONN_SYN_SEEN;
	bpf_spin_unlock(&c->lock);
}

/*
 * Asks the local socket what the books do not say: which of the bytes that were passed
 * beyond a hole are part of its stream by now; or, while the connection is only armed,
 * whether it has what is just passing, be it in a queue. Returns 0. A function of
 * its own, so that the verifier follows it once.
 */
__attribute__((noinline)) int device_ask(struct __sk_buff *skb, __u32 conn)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	struct conn *c = conn_entry(conn);
	struct received r = {};
	struct segment *seg;
	__u32 gen, end;

	if (!s || !c)
		return 0;
	seg = &s->packet.seg;
	end = seg->seq + seg->len + (seg->flags & TH_FIN ? 1 : 0);
	gen = *(volatile __u32 *)&c->gen;
	if (!socket_received(skb, &s->packet, &r))
		return 0;
	bpf_spin_lock(&c->lock);
	if (c->gen == gen && c->tuple.remote_port == s->packet.tuple.remote_port) {
		if (conn_live(c))
			conn_follow(c, r.rcv_nxt);
		else if (c->state == CONN_ARMED && end - r.rcv_nxt <= r.edge - r.rcv_nxt + 1)
			conn_passed(c, end);
	}
	bpf_spin_unlock(&c->lock);
	return 0;
}

/* device_seen's and device_take's verdict where device_rest has the last word. */
#define DEVICE_REST 103

/*
 * What a packet from a device is: s->conn and s->packet, if it is a segment of a known connection.
 * Returns the TC verdict, or DEVICE_REST. A function of its own, for the size of the stack.
 */
__attribute__((noinline)) int device_seen(struct __sk_buff *skb)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	struct packet *p;
	struct conn *c;
	__u32 conn;

	if (!s)
		return TC_PASS;
	if (skb->mark & knob_mark)
		skb->mark &= ~knob_mark;
	p = &s->packet;
	if (skb_parse(skb, true, p) != PARSE_TCP)
		return device_icmp(skb);
	if ((p->seg.flags & (TH_SYN | TH_ACK)) == TH_SYN && listener_syn(skb)) {
		note_syn(&p->tuple);
		return skb_strip_syn(skb, p) ? counted(HOOK_TC_DEVICE_IN, REASON_SYN_ERROR, TC_DROP)
					     : counted(HOOK_TC_DEVICE_IN, REASON_LISTENER_SYN, TC_PASS);
	}
	c = flow_find(&p->tuple, &conn);
	if (!c || conn < knob_slots)
		return TC_PASS;
	if (!device_entry(conn))
		return counted(HOOK_TC_DEVICE_IN, REASON_NO_ENTRY, TC_PASS);
	if (!conn_live(c)) {
		if (c->state == CONN_ARMED && (p->seg.len || (p->seg.flags & TH_FIN)))
			device_ask(skb, conn);
		if (!conn_live(c)) /* if it was seeded just now, the segment belongs in its books */
			return counted(HOOK_TC_DEVICE_IN, REASON_NOT_OPEN, TC_PASS);
	}
	if (skb_corrupt(skb, s, c)) /* the stack drops and counts it, too */
		return counted(HOOK_TC_DEVICE_IN, REASON_BAD_CHECKSUM, TC_PASS);
	if (*(volatile __u32 *)&c->rx_hole != *(volatile __u32 *)&c->rx_nxt &&
	    (p->seg.len || (p->seg.flags & (TH_FIN | TH_RST))))
		device_ask(skb, conn);
	if ((!p->plain || !p->seg.len) && device_blocks(skb, conn))
		device_repair(skb, conn);
	s->conn = conn;
	return DEVICE_REST;
}

/*
 * Why what is left of a segment is not taken, s->bad: counted, remembered, and shown to who looks. Returns 0. A function
 * of its own, for the size of the stack.
 */
__attribute__((noinline)) int device_left(struct __sk_buff *skb, __u32 conn)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	struct device *d = device_entry(conn);

	if (!s || !d)
		return 0;
	count(HOOK_TC_DEVICE_IN, s->bad);
	/* a packet of another kind, or more of a message that is known as left */
	if (s->bad == REASON_NOT_PUBLISH || s->bad == REASON_NO_BOUNDARY)
		return 0;
	d->not_taken = s->bad;
	if (tracing())
		trace_left(skb, conn);
	return 0;
}

/*
 * Takes the messages of a segment with payload. Returns the TC verdict, or DEVICE_REST: some of it is left.
 * A function of its own, for the size of the stack.
 */
__attribute__((noinline)) int device_take(struct __sk_buff *skb, __u32 conn)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	bool large = skb->len > SKB_LARGE;
	bool taken, again;
	__u32 front = 0;
	int remainder = 0;
	struct burst b = {};
	struct packet *p;

	if (!s)
		return TC_PASS;
	p = b.t.p = &s->packet;
	b.skb = skb;
	b.s = s;
	b.t.conn = conn;
	b.t.c = conn_entry(conn);
	b.t.d = device_entry(conn);
	if (!b.t.c || !b.t.d)
		return counted(HOOK_TC_DEVICE_IN, REASON_NO_ENTRY, TC_PASS);
	s->lags = 0;
	s->known = 0;
	s->kept = 0;
	if (*(volatile __u8 *)&b.t.d->kept && keep_meet(skb, conn)) {
		count(HOOK_TC_DEVICE_IN, REASON_KEPT);
		return device_early(skb, conn);
	}
	if (large || (!afresh(s->kept) && p->seg.seq != *(volatile __u32 *)&b.t.c->rx_nxt)) {
		bpf_spin_lock(&b.t.c->lock);
		if (!afresh(s->kept)) /* else its front is not in the packet */
			front = conn_front(b.t.c, &p->seg);
		s->lags = !conn_caught_up(b.t.c);
		s->known = seq_le(p->seg.seq + p->seg.len, b.t.c->rx_nxt);
		bpf_spin_unlock(&b.t.c->lock);
		packet_advance(p, front);
	}
	if (!front && !afresh(s->known) && !large && p->plain && !framing_at_boundary(&b.t.d->framing) &&
	    !(p->seg.flags & (TH_SYN | TH_FIN | TH_RST | TH_URG)))
		remainder = device_pass_remainder(skb, conn);
	s->bad = afresh(s->known) ? REASON_TAKEN : REASON_TCP_FLAGS; /* what is known is not refused */
	s->burst_sent = 0;
	s->burst_last = 0;
	s->group.count = 0;
	s->early = 0;
	s->queue_count = 0;
	/* too long to be cut: what is left must be able to pass behind its front */
	if (large && afresh(s->lags))
		s->bad = REASON_MULTI;
	else if (p->l3 == ETH_HLEN && !afresh(s->known))
		bpf_loop(BURST_MAX, burst_turn, &b, 0);
	if (afresh(s->kept) && keep_vain(skb, conn))
		return counted(HOOK_TC_DEVICE_IN, REASON_CUT_ERROR, TC_DROP);
	taken = afresh(s->burst_sent) || afresh(s->group.count) || afresh(s->early);
	again = taken && (remainder || (front && afresh(s->lags)));
	if (taken && afresh(s->bad) == REASON_PARTIAL && !(again && large) && keep_beginning(skb, conn, again)) {
		count(HOOK_TC_DEVICE_IN, REASON_KEPT);
		s->burst_last = 1;
	}
	/*
	 * What the socket lacks of the front follows: the segment comes
	 * again, and only that is passed of it.
	 */
	if (again && bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS))
		count(HOOK_TC_DEVICE_IN, REASON_REDIRECT_ERROR);
	if (afresh(s->burst_last) && !afresh(s->early))
		return burst_end(skb, s, &b);
	if (afresh(s->group.count))
		burst_flush(skb, s);
	device_unpark(skb, s);
	if (afresh(s->burst_last))
		return device_early(skb, conn);
	if (afresh(s->bad))
		device_left(skb, conn);
	return DEVICE_REST;
}

/* TC ingress of the node interfaces (struct __sk_buff). */
SEC("tc")
int tc_device_in(struct __sk_buff *skb)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	int verdict = device_seen(skb);
	__u32 conn;

	if (verdict != DEVICE_REST || !s)
		return verdict;
	conn = s->conn;
	if (s->packet.seg.len) {
		verdict = device_take(skb, conn);
		if (verdict != DEVICE_REST)
			return verdict;
	}
	verdict = device_rest(skb, conn);
	if (verdict == REST_RESEND)
		return device_resend(skb);
	if (verdict == REST_CLOSE_UP)
		return device_close_up(skb);
	return verdict == REST_REPLY ? device_reply(skb, conn) : verdict;
}
