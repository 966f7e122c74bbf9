/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* device_rest.h - what was not taken of a device's segment goes through the ledger of its connection. */
#ifndef EPROXY_TC_DEVICE_REST_H
#define EPROXY_TC_DEVICE_REST_H

#include "../mech/cut.h"
#include "../mech/follow.h"
#include "../mech/options.h"
#include "../pure/alias.h"
#include "../upstream/resend.h"
#include "../upstream/send.h"
#include "device_answer.h"

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
 * The request of an open graft of the connection s->origin.index, s->origin.gen goes out again, from its
 * buffer. Returns exit_for, or REST_RESEND.
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
		return exit_for(REASON_NO_ENTRY, TC_DROP);
	pod_key = slot->pod;
	pod = bpf_map_lookup_elem(&pods, &pod_key);
	if (!pod)
		return exit_for(REASON_NO_ENTRY, TC_DROP);
	bpf_spin_lock(&sc->lock);
	gen = sc->gen;
	if (index < knob_slots && (slot->state == SLOT_BUSY || slot->state == SLOT_RESPONDING)) {
		repeat(i, slot_in_flight(slot)) {
			struct message *m = slot_message(slot, slot->head + i);

			if (m->origin_position != s->rx.graft.seq || m->origin != s->origin.index ||
			    m->origin_gen != s->origin.gen || m->acked)
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
		return exit_for(REASON_DUP_REQUEST, TC_DROP);
	count(HOOK_TC_DEVICE_IN, REASON_REINJECTED);
	return skb_to_pod(index, &s->frame);
}

/* Passes the segment to the local stack with what s->rx says. */
static __always_inline int device_pass(struct __sk_buff *skb, struct scratch *s)
{
	if (skb_translate(skb, &s->packet, s->rx.seq, s->rx.ack, s->rx.wnd) ||
	    (s->packet.seg.sack && skb_options_store(skb, &s->packet, &s->sack)))
		return exit_for(REASON_TRANSLATE_ERROR, TC_DROP);
	return exit_for(s->rx.ahead ? REASON_AHEAD : REASON_TRANSLATED, TC_PASS);
}

/* Acts on what the state machine said. */
static __always_inline int device_act(struct __sk_buff *skb, struct scratch *s, enum rx_action action, __u32 now_ms)
{
	struct packet *p = &s->packet;

	switch (action) {
	case RX_PASS:
		if (s->rx.len < p->seg.len) {
			if (skb_cut(skb, &s->packet, s->work, s->rx.len))
				return exit_for(REASON_CUT_ERROR, TC_DROP);
		}
		return device_pass(skb, s);
	case RX_PASS_RAW:
		return exit_for(REASON_RAW, TC_PASS);
	case RX_ABSORB:
		return exit_for(REASON_ACK_ABSORBED, TC_DROP);
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
		return exit_for(REASON_CHALLENGE, TC_DROP);
	}
	s->arrival.action = action;
	return REST_REPLY;
}

/*
 * Passes what is left of the segment without its front. Returns exit_for.
 * A function of its own for the verifier, and for the size of the stack.
 */
__attribute__((noinline)) int device_close_up(struct __sk_buff *skb)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);

	if (!s)
		return exit_for(REASON_NO_ENTRY, TC_DROP);
	if (skb_close_up(skb, &s->packet, &s->sack, s->work, s->frame.pseudo_sum))
		return exit_for(REASON_CUT_ERROR, TC_DROP);
	return device_pass(skb, s);
}

/* Sends the request again that reinject has named. Returns exit_for. A function of its own for the size of the stack. */
__attribute__((noinline)) int device_resend(struct __sk_buff *skb)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);

	if (!s)
		return exit_for(REASON_NO_ENTRY, TC_DROP);
	requests_resend(skb, s, HOOK_TC_DEVICE_IN);
	return exit_for(REASON_REINJECTED, TC_DROP);
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
 * What was not taken goes through the ledger of the connection with this conn
 * index. Returns exit_for, or REST_*. A function of its own, so that
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
		return exit_for(REASON_NO_ENTRY, TC_DROP);
	p = &s->packet;
	front = p->front;
	framed = p->seg.len && p->seg.seq == c->rx_nxt && !(c->flags & CONN_LOST) && !device_invalid(s->admit.refused);
	s->began = d->framing;
	if (framed) {
		s->framing = s->began;
		skb_framing(skb, &s->packet, &s->framing, 0, d->version);
	}
	now_ms = bpf_ktime_get_ns() / 1000000;
	bpf_spin_lock(&c->lock);
	if (conn_live(c) && c->tuple.remote_port == p->tuple.remote_port) {
		known = p->seg.seq == c->rx_nxt;
		moved = front && !known;
		/* placed below the next byte, the front must not be new to the socket */
		bare = front && !moved && !conn_front_ok(c, p->seg.seq - front);
		s->frame.pseudo_sum = c->pseudo_sum;
		s->origin.index = conn;
		s->origin.gen = c->gen;
		s->arrival.again = p->seg.len && (c->flags & CONN_SACK) && seq_lt(p->seg.seq - front, c->rx_nxt);
		action = moved ? RX_DROP : conn_rx(c, &p->seg, &s->rx, now_ms);
		if (action == RX_PASS && known && p->seg.len) {
			if (framed && s->rx.len == p->seg.len && !s->framing.bad &&
			    framing_same(&d->framing, &s->began))
				d->framing = s->framing;
			else
				c->flags |= CONN_LOST; /* until the server has read all */
			if (framed && s->framing.topics)
				alias_passed(d, s->rx.seq + s->rx.len);
		}
		if (action == RX_ACK)
			s->rx.seq = c->rx_nxt;
	}
	bpf_spin_unlock(&c->lock);
	if (moved)
		return exit_for(REASON_RACE, TC_DROP);
	if (bare && action == RX_PASS)
		return REST_CLOSE_UP;
	if (action == RX_PASS && afresh(s->arrival.again))
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
	one.flags &= ~TH_FIN; /* that is the rest's */
	s->began = d->framing;
	s->framing = s->began;
	one.len = skb_remainder(skb, &s->packet, &s->framing);
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

#endif
