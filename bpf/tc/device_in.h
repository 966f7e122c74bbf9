/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * device_in.h - TC ingress at the node interface: everything that XDP left.
 * Takes a PUBLISH (XDP off, unsupported, or headroom too small), keeps the
 * books of what passes, answers for what the programs took.
 */
#include "../include/skb.h"

/* State of the walk over a passing segment's MQTT framing. */
struct walk_ctx {
	struct __sk_buff *skb;
	struct scratch *s;
	__u32 off;
	__u32 end;
};

static long walk_step(__u64 index, void *data)
{
	struct walk_ctx *w = data;
	struct walk *walk = &w->s->walk;
	__u32 n;
	__u8 b;

	if (w->off >= w->end || walk->bad)
		return 1;
	if (walk->left) {
		n = w->end - w->off;
		if (n > walk->left)
			n = walk->left;
		walk->left -= n;
		w->off += n;
		return 0;
	}
	if (bpf_skb_load_bytes(w->skb, w->off, &b, 1)) {
		walk->bad = 1;
		return 1;
	}
	w->off++;
	walk_head_byte(walk, b);
	return 0;
}

/* Follows the MQTT framing of the segment's payload from the connection's position on. */
static __always_inline void walk_segment(struct __sk_buff *skb, struct scratch *s, const struct device *d)
{
	struct walk_ctx w = {
		.skb = skb,
		.s = s,
		.off = s->packet.payload,
		.end = s->packet.payload + s->packet.seg.len,
	};

	s->walk = d->walk;
	bpf_loop(2 * s->packet.seg.len + 1, walk_step, &w, 0);
}

/*
 * A retransmission this soon is no sign of a loss between us and the pod, only
 * of a function that takes its time (tail loss probes come after two round
 * trips); a real one comes again, at the device's RTO.
 */
#define REINJECT_MIN_MS 100

/* The request of an open graft goes out again, from the slot's buffer. */
static __always_inline int reinject(struct __sk_buff *skb, struct scratch *s, __u32 now_ms)
{
	__u32 index = s->rx.graft.slot, gen = s->rx.graft.slot_gen;
	struct slot *slot = bpf_map_lookup_elem(&slots, &index);
	struct conn *sc = bpf_map_lookup_elem(&conns, &index);
	struct stamp stamp;
	bool ok = false;
	__u32 len = 0;

	if (!slot || !sc)
		return TC_DROP;
	if (now_ms - s->rx.graft.time_ms < REINJECT_MIN_MS) {
		count(HOOK_TC_DEVICE_IN, REASON_DUP_REQUEST);
		return TC_DROP;
	}
	bpf_spin_lock(&sc->lock);
	if (sc->gen == gen && slot->state == SLOT_BUSY && !slot->acked &&
	    slot->request_seq == s->rx.graft.slot_seq) {
		conn_stamp(sc, &stamp);
		stamp.seq = slot->request_seq;
		len = slot->request_len;
		frame_fill(&s->frame, sc, &stamp, TH_ACK | TH_PSH, len);
		ok = true;
	}
	bpf_spin_unlock(&sc->lock);
	if (!ok || skb_make_request(skb, s, slot, len)) {
		count(HOOK_TC_DEVICE_IN, REASON_DUP_REQUEST);
		return TC_DROP;
	}
	/* The bytes just copied are this request's only if the slot is still the same. */
	bpf_spin_lock(&sc->lock);
	ok = sc->gen == gen && slot->state == SLOT_BUSY && slot->request_seq == s->rx.graft.slot_seq;
	bpf_spin_unlock(&sc->lock);
	if (!ok)
		return TC_DROP;
	count(HOOK_TC_DEVICE_IN, REASON_REINJECTED);
	return skb_to_pod(s, slot);
}

/*
 * The skb is a request by now, but the PUBLISH it was also acknowledged bytes
 * of the local socket: a copy goes to the pod, and the skb becomes the bare ACK
 * that the socket waits for. Returns false if there is no such news.
 */
static __always_inline bool pass_news(struct __sk_buff *skb, struct scratch *s, struct conn *c)
{
	struct stamp stamp;
	bool news = false;

	bpf_spin_lock(&c->lock);
	if (c->gen == s->device_gen)
		news = conn_news(c, &s->packet.seg, &s->rx);
	bpf_spin_unlock(&c->lock);
	if (!news)
		return false;
	if (bpf_clone_redirect(skb, s->frame.ifindex, 0))
		count(HOOK_TC_DEVICE_IN, REASON_REDIRECT_ERROR);
	stamp.seq = s->rx.seq;
	stamp.ack = s->rx.ack;
	stamp.wnd = s->rx.wnd;
	bpf_spin_lock(&c->lock);
	frame_fill_local(&s->frame, c, &stamp);
	bpf_spin_unlock(&c->lock);
	if (bpf_skb_change_tail(skb, s->frame.len, 0) ||
	    skb_send_frame(skb, &s->frame, skb_ip_summed(skb) == CHECKSUM_PARTIAL, 0))
		count(HOOK_TC_DEVICE_IN, REASON_REDIRECT_ERROR);
	skb->mark &= ~knob_mark;
	return true;
}

/* Acts on what the state machine said. */
static __always_inline int device_act(struct __sk_buff *skb, struct scratch *s, enum rx_action action, __u32 now_ms)
{
	struct packet *p = &s->packet;
	__u32 flags;

	switch (action) {
	case RX_PASS:
		if (s->rx.len < p->seg.len) {
			if (skb_cut(skb, s, s->rx.len))
				return TC_DROP;
		}
		count(HOOK_TC_DEVICE_IN, REASON_TRANSLATED);
		return skb_translate(skb, p, s->rx.seq, s->rx.ack, s->rx.wnd) ? TC_DROP : TC_PASS;
	case RX_PASS_RAW:
		return TC_PASS;
	case RX_ABSORB:
		count(HOOK_TC_DEVICE_IN, REASON_ACK_ABSORBED);
		return TC_DROP;
	case RX_REINJECT:
		return reinject(skb, s, now_ms);
	case RX_RESEND:
		count(HOOK_TC_DEVICE_IN, REASON_PUBACK_RESENT);
		break;
	case RX_ACK:
		count(HOOK_TC_DEVICE_IN, seq_gt(p->seg.seq, s->rx.seq) ? REASON_AHEAD : REASON_OLD_DUPLICATE);
		break;
	case RX_CHALLENGE:
		count(HOOK_TC_DEVICE_IN, REASON_CHALLENGE);
		break;
	default:
		count(HOOK_TC_DEVICE_IN, REASON_CHALLENGE);
		return TC_DROP;
	}
	flags = skb_send_small(skb, &s->frame, s->rx.graft.bytes);
	if ((int)flags < 0) {
		count(HOOK_TC_DEVICE_IN, REASON_REDIRECT_ERROR);
		return TC_DROP;
	}
	return flags;
}

/* Fills s->frame with the answer that the action calls for. Under the lock. */
static __always_inline void answer_fill(struct conn *c, struct scratch *s, enum rx_action action, __u32 now_ms)
{
	struct stamp stamp;

	if (action != RX_ACK && action != RX_CHALLENGE && action != RX_RESEND)
		return;
	s->rx.seq = c->rx_nxt;
	conn_bare(c, &stamp, now_ms);
	if (action == RX_RESEND) {
		stamp.seq = s->rx.graft.seq;
		frame_fill(&s->frame, c, &stamp, TH_ACK | TH_PSH, 4);
	} else {
		frame_fill(&s->frame, c, &stamp, TH_ACK, 0);
	}
}

/* TC ingress of the node interfaces (struct __sk_buff). */
SEC("tc")
int tc_device_in(struct __sk_buff *skb)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	enum rx_action action = RX_PASS_RAW;
	struct take t = {};
	enum reason reason;
	__u32 *index, dev, summed;
	bool walked, known;
	struct slot *slot;
	__u32 now_ms;

	if (!s)
		return TC_PASS;
	if (skb->mark & knob_mark)
		skb->mark &= ~knob_mark;
	if (skb_parse(skb, true, &s->packet) != PARSE_TCP)
		return TC_PASS;
	if ((s->packet.seg.flags & (TH_SYN | TH_ACK)) == TH_SYN &&
	    bpf_map_lookup_elem(&listeners, &s->packet.tuple.local_port)) {
		count(HOOK_TC_DEVICE_IN, REASON_LISTENER_SYN);
		return skb_strip_syn(skb, &s->packet) ? TC_DROP : TC_PASS;
	}
	index = bpf_map_lookup_elem(&flows, &s->packet.tuple);
	if (!index || *index < knob_slots)
		return TC_PASS;
	t.conn = *index;
	dev = t.conn - knob_slots;
	t.c = bpf_map_lookup_elem(&conns, &t.conn);
	t.d = bpf_map_lookup_elem(&devices, &dev);
	if (!t.c || !t.d)
		return TC_PASS;
	if (t.c->state != CONN_OPEN && t.c->state != CONN_CLOSED)
		return TC_PASS;

	t.p = &s->packet;
	if (s->packet.seg.len) {
		summed = skb_ip_summed(skb);
		s->verify = summed == CHECKSUM_NONE || summed == CHECKSUM_COMPLETE;
		if (s->packet.l3 != ETH_HLEN)
			reason = REASON_TCP_FLAGS;
		else
			reason = take_try(skb, false, &t, s);
		count(HOOK_TC_DEVICE_IN, reason);
		if (reason == REASON_TAKEN) {
			count_taken(s);
			slot = bpf_map_lookup_elem(&slots, &s->slot);
			if (!slot || skb_make_request(skb, s, slot, s->request_len)) {
				count(HOOK_TC_DEVICE_IN, REASON_REDIRECT_ERROR);
				return TC_DROP;
			}
			if (t.c->tx_kuna != t.c->tx_knxt && pass_news(skb, s, t.c))
				return TC_PASS;
			return skb_to_pod(s, slot);
		}
		if (s->verify && reason == REASON_BAD_CHECKSUM)
			return TC_PASS; /* the stack drops and counts it */
	}
	walked = s->packet.seg.len && s->packet.seg.seq == t.c->rx_nxt && !(t.c->flags & CONN_LOST);
	if (walked)
		walk_segment(skb, s, t.d);

	now_ms = bpf_ktime_get_ns() / 1000000;
	bpf_spin_lock(&t.c->lock);
	if ((t.c->state == CONN_OPEN || t.c->state == CONN_CLOSED) &&
	    t.c->tuple.remote_port == s->packet.tuple.remote_port) {
		known = s->packet.seg.seq == t.c->rx_nxt;
		action = conn_rx(t.c, &s->packet.seg, &s->rx, now_ms);
		if (action == RX_PASS && known && s->packet.seg.len) {
			if (walked && !s->walk.bad)
				t.d->walk = s->walk;
			else
				t.c->flags |= CONN_LOST;
		}
		answer_fill(t.c, s, action, now_ms);
	}
	bpf_spin_unlock(&t.c->lock);
	return device_act(skb, s, action, now_ms);
}
