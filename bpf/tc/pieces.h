/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* pieces.h - segments of the local socket that reach over insertions leave in pieces. */
#ifndef EPROXY_TC_PIECES_H
#define EPROXY_TC_PIECES_H

#include "../mech/cut.h"
#include "../mech/send.h"
#include "../mech/verdict.h"
#include "../work/scratch.h"

/* The ledger hears of the local socket's segment; s->tx says what becomes of it. Under the lock. */
static __always_inline void out_account(struct conn *c, struct scratch *s, __u32 now_ms)
{
	const struct segment *seg = &s->packet.seg;
	bool again = seg->len && seq_lt(seg->seq, c->tx_knxt);

	conn_tx(c, seg, &s->tx, now_ms);
	if (again)
		again_note(&c->tx_again, s->tx.seq, seg->seq, s->tx.len);
}

/* A clone of a segment becomes one piece of it: s->tx.len bytes from s->packet's front on. Returns 0 or -1. */
static __always_inline int out_piece(struct __sk_buff *skb, struct scratch *s)
{
	struct packet *p = &s->packet;

	if (skb_cut(skb, &s->packet, s->work, s->tx.len))
		return -1;
	p->seg.len = s->tx.len;
	if (p->front && skb_close_up(skb, &s->packet, &s->sack, s->work, s->frame.pseudo_sum))
		return -1;
	return skb_translate(skb, p, s->tx.seq, s->tx.ack, s->tx.wnd);
}

/* Pieces that a segment leaves in at most; more comes again. */
#define PIECES_MAX 64

/* A segment that reaches over insertions, while it leaves in pieces. */
struct pieces {
	struct __sk_buff *skb;
	struct scratch *s;
	struct conn *c;
	__u32 mss; /* 0: the segment is no longer than it may be */
	__u32 now_ms;
};

/* Whether what s->tx says of the rest is all of it: it leaves as it is. */
static __always_inline bool pieces_last(const struct scratch *s, __u32 mss)
{
	return !s->tx.cut && (!mss || s->tx.len <= mss);
}

/* One piece leaves in a clone. */
static long piece_step(__u64 index, void *data)
{
	struct pieces *x = data;
	struct scratch *s = x->s;
	struct packet *p = &s->packet;
	__u32 payload = p->payload, front = p->front, len = p->seg.len;
	struct conn *c = x->c;

	if (pieces_last(s, x->mss))
		return 1;
	if (x->mss && s->tx.len > x->mss)
		s->tx.len = x->mss; /* cutting undoes segmentation offload */
	s->shape = SHAPE_CUT;
	x->skb->mark |= knob_mark;
	if (bpf_clone_redirect(x->skb, x->skb->ifindex, 0))
		count(s->leaving.hook, REASON_REDIRECT_ERROR);
	x->skb->mark &= ~knob_mark;
	s->shape = SHAPE_NONE;
	p->payload = payload;
	p->front = front;
	p->seg.len = len;
	packet_advance(p, s->tx.len);
	bpf_spin_lock(&c->lock);
	if (conn_live(c) && c->tuple.remote_port == p->tuple.remote_port)
		out_account(c, s, x->now_ms);
	bpf_spin_unlock(&c->lock);
	return 0;
}

/*
 * The local socket does not know of insertions: what it sends again may reach over
 * some. It leaves in pieces, each at its place; the last one is the skb. Returns
 * exit_for. A function of its own, so that the verifier follows it once.
 */
__attribute__((noinline)) int out_pieces(struct __sk_buff *skb, __u32 hook)
{
	struct pieces x = { .skb = skb, .mss = skb->gso_size };
	struct scratch *s = scratch_of(hook);
	struct segment whole;

	if (!s)
		return exit_for(REASON_NO_ENTRY, TC_DROP);
	x.s = s;
	x.c = conn_entry(s->conn);
	if (!x.c)
		return exit_for(REASON_NO_ENTRY, TC_DROP);
	x.now_ms = bpf_ktime_get_ns() / 1000000;
	whole = s->packet.seg;
	s->frame.pseudo_sum = x.c->pseudo_sum;
	bpf_loop(PIECES_MAX, piece_step, &x, 0);
	if (!pieces_last(s, x.mss) || skb_close_up(skb, &s->packet, &s->sack, s->work, s->frame.pseudo_sum))
		return exit_for(REASON_CUT_ERROR, TC_DROP);
	bpf_spin_lock(&x.c->lock);
	if (x.c->tuple.remote_port == s->packet.tuple.remote_port)
		conn_frame_to(x.c, &whole, s->leaving.framed, &s->framing);
	bpf_spin_unlock(&x.c->lock);
	if (skb_translate(skb, &s->packet, s->tx.seq, s->tx.ack, s->tx.wnd))
		return exit_for(REASON_TRANSLATE_ERROR, TC_DROP);
	return exit_for(REASON_TRANSLATED, TC_PASS);
}

#endif
