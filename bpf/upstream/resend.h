/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * resend.h - requests that got lost on their way to a pod leave again from their
 * buffers, at the same place in the pod's stream, in as many segments as the path
 * takes now. Whoever finds out that they are lost calls requests_resend.
 */
#ifndef EPROXY_UPSTREAM_RESEND_H
#define EPROXY_UPSTREAM_RESEND_H

#include "../mech/send.h"
#include "begin.h"

/* A request that is too long for one segment is cut at multiples of this, bytes; MSS_LEAST is not less. */
#define PIECE_UNIT 512

/* Bytes of the piece of a request that begins at off. */
static __always_inline __u32 piece_len(__u32 request_len, __u32 off, __u32 mss)
{
	__u32 len = request_len - off, most = mss & ~(__u32)(PIECE_UNIT - 1);

	if (len <= mss)
		return len;
	return most ? most : PIECE_UNIT;
}

/* A piece while it is copied into an skb. */
struct piece_copy {
	struct __sk_buff *skb;
	struct request *r;
	__u32 off; /* in the request */
	__u32 end;
	__u32 to; /* in the frame */
	__u32 sum;
	bool summing;
};

static long piece_chunk(__u64 index, void *data)
{
	struct piece_copy *c = data;
	__u32 off = c->off, n = c->end - off;
	__s64 sum;

	if (off >= c->end || off > REQUEST_MAX - PIECE_UNIT)
		return 1;
	if (n > PIECE_UNIT)
		n = PIECE_UNIT;
	if (!within(n, 1, PIECE_UNIT) || bpf_skb_store_bytes(c->skb, c->to, c->r->buf + off, n, BPF_F_RECOMPUTE_CSUM))
		return 1;
	n = (n + 3) & (2 * PIECE_UNIT - 4);
	if (c->summing && n <= PIECE_UNIT) {
		sum = bpf_csum_diff(NULL, 0, (__be32 *)(c->r->buf + off), n, c->sum);
		if (sum < 0)
			return 1;
		c->sum = sum;
	}
	c->to += PIECE_UNIT;
	c->off += PIECE_UNIT; /* a shorter one is the last */
	return 0;
}

/*
 * Turns the skb into the piece's segment, and makes sure that the bytes are that
 * request's and nobody else's. Returns 0 or -1.
 */
static __always_inline int piece_make(struct __sk_buff *skb, struct piece *p)
{
	struct slot *slot = slot_entry(p->slot);
	struct conn *sc = conn_entry(p->slot);
	bool partial = skb_ip_summed(skb) == CHECKSUM_PARTIAL;
	struct piece_copy c = {
		.skb = skb,
		.r = request_buffer(p->slot, p->number),
		.off = p->off,
		.end = p->off + p->frame.payload_len,
		.to = p->frame.len,
		.summing = !partial,
	};

	if (!slot || !sc || !c.r || bpf_skb_change_tail(skb, p->frame.len + p->frame.payload_len, 0))
		return -1;
	bpf_loop(REQUEST_MAX / PIECE_UNIT, piece_chunk, &c, 0);
	if (c.off < c.end || skb_send_frame(skb, &p->frame, partial, c.sum))
		return -1;
	return request_live(sc, slot, p->slot_gen, p->number) ? 0 : -1;
}

/* What resend_step works with; the rest is in the scratch's piece. */
struct resend {
	struct __sk_buff *skb;
	struct scratch *s;
	enum hook hook;
};

/*
 * Fills the piece's frame, if its request is still in flight and the pod has not
 * acknowledged it. Returns the request's length or 0. The youngest is not sent again
 * before its maker has let the slot go: until then it may be undone (slot_undo).
 */
static __always_inline __u32 piece_fill(struct piece *p, struct conn *sc, struct slot *slot, const struct pod *pod,
					__u32 mss, __u32 now_ms)
{
	struct message *m = slot_message(slot, p->number);
	struct stamp stamp;
	__u32 len = 0;

	bpf_spin_lock(&sc->lock);
	if (sc->gen == p->slot_gen && sc->state == CONN_OPEN && slot->state != SLOT_RETIRED && !m->acked &&
	    p->number - slot->head < slot_in_flight(slot) &&
	    !(p->number + 1 == slot->tail && (*(volatile __u64 *)&pod->filling & slot_bit(pod, p->slot)))) {
		len = m->request_len;
		conn_stamp(sc, &stamp);
		stamp.seq = m->request_seq + p->off;
		frame_fill(&p->frame, sc, &stamp, TH_ACK | TH_PSH, piece_len(len, p->off, mss));
		m->sent_ms = now_ms;
		m->again = 1;
	}
	bpf_spin_unlock(&sc->lock);
	return len;
}

/* One piece of the requests that are to be sent again. */
static long resend_step(__u64 i, void *data)
{
	struct resend *r = data;
	struct piece *p = &r->s->piece;
	struct slot *slot = slot_entry(p->slot);
	struct conn *sc = conn_entry(p->slot);
	struct pod *pod;
	__u32 len, pod_key, now_ms;

	if (!slot || !sc || p->number == p->end)
		return 1;
	pod_key = slot->pod;
	pod = bpf_map_lookup_elem(&pods, &pod_key);
	if (!pod)
		return 1;
	now_ms = bpf_ktime_get_ns() / 1000000;
	len = piece_fill(p, sc, slot, pod, slot_mss(pod, sc, now_ms), now_ms);
	if (len) {
		skb_send_clone(r->skb, &r->s->shape, SHAPE_PIECE, r->hook, &p->frame);
		p->off += p->frame.payload_len;
		if (p->off < len)
			return 0;
		count(r->hook, REASON_REQUEST_RESENT);
	}
	p->number++;
	p->off = 0;
	return 0;
}

/*
 * Names the requests [number, end) of a slot for requests_resend, which sends
 * those of them that are in flight and not acknowledged.
 */
static __always_inline void requests_lost(struct piece *p, __u32 index, __u32 gen, __u32 number, __u32 end)
{
	p->slot = index;
	p->slot_gen = gen;
	p->number = number;
	p->end = end;
	p->off = 0;
}

/*
 * Sends the requests of the scratch's piece again, as clones of the skb. If that is
 * CHECKSUM_PARTIAL it must be a TCP segment. No lock is held.
 */
static __always_inline void requests_resend(struct __sk_buff *skb, struct scratch *s, enum hook hook)
{
	struct resend r = { .skb = skb, .s = s, .hook = hook };

	bpf_loop(PIPELINE_MAX * (REQUEST_MAX / PIECE_UNIT), resend_step, &r, 0);
}

/*
 * Names the oldest requests of a slot that its pod may be missing for requests_resend: as
 * many as can have left in one segment of mss bytes. Under the slot's lock.
 */
static __always_inline void requests_missing(struct piece *p, __u32 index, const struct conn *c, struct slot *slot,
					     __u32 mss, __u32 now_ms)
{
	__u32 first = slot_unacked(slot);

	p->end = first;
	repeat(i, GROUP_MAX) {
		struct message *m = slot_message(slot, afresh(p->end));

		if (afresh(p->end) == slot->tail || !recovery_missing(c, m->sent_ms, now_ms) ||
		    (i && m->request_seq + m->request_len - c->tx_una > mss))
			break;
		p->end++;
	}
	requests_lost(p, index, c->gen, first, afresh(p->end));
}

#endif
