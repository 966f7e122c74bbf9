/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * device_answer.h - what a device gets from the hook itself: acknowledgements, PUBACKs that got lost, and
 * what its local socket must hear.
 */
#ifndef EPROXY_TC_DEVICE_ANSWER_H
#define EPROXY_TC_DEVICE_ANSWER_H

#include "../mech/attention.h"
#include "../mech/options.h"
#include "../mech/send.h"
#include "../work/scratch.h"

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
	if (c->gen == s->origin.gen)
		news = conn_news(c, &s->packet.seg, &s->rx, s->packet.seg.sack ? s->sack.count : 0);
	bpf_spin_unlock(&c->lock);
	return news;
}

/*
 * All of the segment was taken, but it also acknowledged bytes of the local socket: the skb becomes
 * the bare ACK that the socket waits for, as s->rx says. Returns exit_for. A function of its
 * own for the verifier, and for the size of the stack.
 */
__attribute__((noinline)) int device_local_ack(struct __sk_buff *skb, __u32 conn)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	struct conn *c = conn_entry(conn);
	__u32 options = 0;
	struct stamp stamp;

	if (!s || !c)
		return exit_for(REASON_NO_ENTRY, TC_DROP);
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

/*
 * The segment becomes the answer that s->arrival.action calls for: an ACK, with what came
 * twice if it is a duplicate, and with the PUBACK of s->rx.graft (RX_RESEND).
 * Returns exit_for. A function of its own, so that the verifier follows it once.
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
		return exit_for(REASON_NO_ENTRY, TC_DROP);
	action = s->arrival.action;
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
		return exit_for(REASON_RACE, TC_DROP);
	verdict = skb_send_small(skb, &s->frame, s->notice.bytes);
	return verdict < 0 ? exit_for(REASON_REDIRECT_ERROR, TC_DROP) : verdict;
}

/*
 * All of the segment was taken, and some of it is parked, or on its way to a pod that is far: the device is acknowledged what it has sent,
 * since nothing else may leave to it for long. If the segment was also news of the local socket's
 * bytes, the skb becomes the bare ACK that the socket waits for. Returns exit_for. A function of
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
		return exit_for(REASON_NO_ENTRY, TC_DROP);
	news = device_news(conn);
	bpf_spin_lock(&c->lock);
	if (c->gen == s->origin.gen && conn_live(c)) {
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
			skb_send_clone(skb, &s->shape, SHAPE_BARE, HOOK_TC_DEVICE_IN, &s->group.frame);
		return device_local_ack(skb, conn);
	}
	if (!ack)
		return exit_counted(TC_DROP);
	verdict = skb_send_small(skb, &s->frame, s->notice.bytes);
	return verdict < 0 ? exit_for(REASON_REDIRECT_ERROR, TC_DROP) : verdict;
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
	if (!p->plain && !skb_options(skb, &s->packet, &s->sack))
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
	skb_send_clone(skb, &s->shape, SHAPE_REPAIR, HOOK_TC_DEVICE_IN, &s->frame);
	return 0;
}

#endif
