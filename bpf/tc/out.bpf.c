/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * out.bpf.c - TC egress, the same for node and pod interfaces: everything that
 * the local sockets send is translated to wire space; the first packet of an
 * armed connection seeds its ledger.
 */
#include "../mech/attention.h"
#include "../mech/follow.h"
#include "../mech/flow.h"
#include "../mech/options.h"
#include "../mech/syn.h"
#include "seed.h"
#include "shape.h"
#include "../upstream/pod.h"

/*
 * The SACK blocks of a segment of the local socket become the peer's: s->tx says
 * what its acknowledgement is. Returns how many are left, or -1. A function of its
 * own, so that the verifier follows it once.
 */
__attribute__((noinline)) int out_blocks(struct __sk_buff *skb, __u32 hook)
{
	struct scratch *s = scratch_of(hook);
	struct conn *c;

	if (!s)
		return -1;
	if (s->packet.plain)
		return 0;
	c = conn_entry(s->conn);
	if (!c || skb_options(skb, &s->packet, &s->sack))
		return -1;
	if (!s->sack.came)
		return 0;
	bpf_spin_lock(&c->lock);
	sack_to_wire(&s->sack, c, s->packet.seg.ack, s->tx.ack);
	bpf_spin_unlock(&c->lock);
	return skb_options_store(skb, &s->packet, &s->sack) ? -1 : s->sack.count;
}

/* Somebody connects to a pod, and it is no slot: if it is asleep it is woken. */
static __always_inline void out_knock(enum hook hook, const struct packet *p)
{
	struct listener at = { .port = p->tuple.remote_port };
	struct pod *pod;
	__u32 *index;

	memcpy(at.address, p->tuple.remote, sizeof(at.address));
	index = bpf_map_lookup_elem(&asleep, &at);
	if (!index)
		return;
	pod = bpf_map_lookup_elem(&pods, index);
	if (pod)
		pod_rouse(hook, pod);
}

/* Verdicts of out_segment where out_leave, and of that where out_pieces has the last word. */
#define OUT_LEAVE  100
#define OUT_PIECES 101

/*
 * A SYN of a local socket, device: 1: to a device. Returns exit_for. Of a SYN-ACK to a known 4-tuple whatever was here
 * belongs to the past.
 */
static __always_inline int out_syn(struct __sk_buff *skb, const struct packet *p, struct conn *c, __u32 device)
{
	if (!device)
		return skb_strip_syn(skb, p) ? exit_for(REASON_SYN_ERROR, TC_DROP) : exit_for(REASON_SLOT_SYN, TC_PASS);
	bpf_spin_lock(&c->lock);
	if (c->state != CONN_FREE) {
		c->gen++;
		c->state = CONN_FREE;
	}
	bpf_spin_unlock(&c->lock);
	return exit_for(REASON_REUSED, TC_PASS);
}

/* Follows the MQTT framing of what goes to a device, in s->framing. Returns where it was followed to before. */
static __always_inline __u32 out_follow(struct __sk_buff *skb, struct scratch *s, const struct conn *c, bool seeding)
{
	__u32 front;

	/* the socket sends one segment after another: nobody else follows them */
	front = seeding ? 0 : conn_framed(c, &s->packet.seg);
	s->framing = c->tx_framing;
	if (seeding)
		memset(&s->framing, 0, sizeof(s->framing));
	if (front < s->packet.seg.len)
		skb_framing(skb, &s->packet, &s->framing, front, 0);
	return front;
}

/*
 * The ledger hears of a segment of the local socket; seed: it begins with this one. Returns REASON_TRANSLATED if s->tx says what
 * becomes of it, REASON_SEEDED, or REASON_NOT_OPEN.
 */
static __always_inline enum reason out_ledger(struct scratch *s, struct conn *c, struct device *d,
					      const struct seed *seed, bool seeding, __u32 front)
{
	enum reason reason = REASON_NOT_OPEN;
	struct packet *p = &s->packet;
	__u64 now = bpf_ktime_get_ns();
	__u32 now_ms = now / 1000000;

	bpf_spin_lock(&c->lock);
	if (c->tuple.remote_port == p->tuple.remote_port) {
		if (c->state == CONN_ARMED && seeding) {
			seed_apply(c, d, p, seed, now_ms);
			conn_frame_to(c, &p->seg, front, &s->framing);
			reason = REASON_SEEDED;
		} else if (conn_live(c)) {
			out_account(c, s, now_ms);
			if (!s->tx.cut)
				conn_frame_to(c, &p->seg, front, &s->framing);
			if (d && !p->seg.len && !(p->seg.flags & (TH_FIN | TH_RST)))
				s->tx.seq = conn_before_notified(c, s->tx.seq, now / 1000);
			reason = REASON_TRANSLATED;
		}
		if (p->seg.len)
			c->data_us = now / 1000;
	}
	bpf_spin_unlock(&c->lock);
	return reason;
}

/*
 * The ledger hears of a segment of the local socket. Returns exit_for, or
 * OUT_LEAVE. A function of its own, for the size of the stack.
 */
__attribute__((noinline)) int out_segment(struct __sk_buff *skb, __u32 hook, __u32 device)
{
	struct scratch *s = scratch_of(hook);
	struct device *d = NULL;
	struct seed seed = {};
	enum reason reason;
	__u32 conn, front;
	struct packet *p;
	struct conn *c;
	bool seeding;

	if (!s)
		return TC_PASS;
	p = &s->packet;
	if (skb_parse(skb, false, p) != PARSE_TCP)
		return TC_PASS;
	c = flow_find(&p->tuple, &conn);
	if (!c && !device && (p->seg.flags & (TH_SYN | TH_ACK)) == TH_SYN)
		out_knock(hook, p);
	if (!c || (conn >= knob_slots) != device)
		return TC_PASS;
	if (device) {
		d = device_entry(conn);
		if (!d)
			return exit_for(REASON_NO_ENTRY, TC_PASS);
	}
	if (p->seg.flags & TH_SYN)
		return out_syn(skb, p, c, device);
	if (c->state == CONN_FREE)
		return exit_for(REASON_NOT_OPEN, TC_PASS);
	/* CONNACK is the first payload after arming; a slot's handshake ends with a bare ACK. */
	seeding = c->state == CONN_ARMED && !(p->seg.flags & (TH_RST | TH_FIN)) && (p->seg.flags & TH_ACK) &&
		  (p->seg.len || !device);
	if (seeding && ((device && !seed_connack(skb, p)) || !seed_read(skb, p->seg.seq, &seed)))
		return exit_for(REASON_NOT_OPEN, TC_PASS);
	front = p->seg.len;
	if (device && front)
		front = out_follow(skb, s, c, seeding);
	reason = out_ledger(s, c, d, &seed, seeding, front);
	if (reason != REASON_TRANSLATED)
		return exit_for(reason, TC_PASS);
	if (s->tx.reset & CONN_BROKEN) {
		attend(c, conn);
		count(hook, REASON_BROKEN);
		event_simple(hook, EVENT_BROKEN, conn, c->gen);
	}
	s->leaving.hook = hook;
	s->conn = conn;
	s->leaving.framed = front;
	return OUT_LEAVE;
}

/*
 * What s->tx says becomes of the segment, which has so many blocks. Returns
 * exit_for, or OUT_PIECES. A function of its own, for the size of the stack.
 */
__attribute__((noinline)) int out_leave(struct __sk_buff *skb, __u32 hook, __u32 blocks)
{
	struct scratch *s = scratch_of(hook);
	__u32 mss = skb->gso_size;

	if (!s)
		return exit_for(REASON_NO_ENTRY, TC_DROP);
	if (s->tx.hold && !blocks) /* blocks are news */
		return exit_for(REASON_HELD, TC_DROP);
	if (s->tx.cut) {
		count(hook, REASON_TRIMMED);
		if (skb->len <= SKB_LARGE)
			return OUT_PIECES;
		if (mss && s->tx.len > mss)
			s->tx.len = mss; /* cutting undoes segmentation offload */
		if (skb_cut(skb, &s->packet, s->work, s->tx.len))
			return exit_for(REASON_CUT_ERROR, TC_DROP);
	}
	if (skb_translate(skb, &s->packet, s->tx.seq, s->tx.ack, s->tx.wnd))
		return exit_for(REASON_TRANSLATE_ERROR, TC_DROP);
	return exit_for(REASON_TRANSLATED, TC_PASS);
}

/* What becomes of a packet of a local socket, or of TC ingress: exit_for. */
static __always_inline int out(struct __sk_buff *skb, enum hook hook, bool device)
{
	int verdict, blocks;

	if ((skb->mark & knob_mark) == knob_mark) {
		skb->mark &= ~knob_mark;
		if (out_shape(skb, hook))
			return exit_for(REASON_SHAPE_ERROR, TC_DROP);
		return exit_for(REASON_INJECTED, TC_PASS);
	}
	verdict = out_segment(skb, hook, device);
	if (verdict != OUT_LEAVE)
		return verdict;
	blocks = out_blocks(skb, hook);
	if (blocks < 0)
		return exit_for(REASON_TRANSLATE_ERROR, TC_DROP);
	verdict = out_leave(skb, hook, blocks);
	return verdict == OUT_PIECES ? out_pieces(skb, hook) : verdict;
}

/* TC egress of the node interfaces. */
SEC("tc")
int tc_device_out(struct __sk_buff *skb)
{
	return leave(HOOK_TC_DEVICE_OUT, out(skb, HOOK_TC_DEVICE_OUT, true));
}

/* TC egress of the pod interfaces. */
SEC("tc")
int tc_pod_out(struct __sk_buff *skb)
{
	return leave(HOOK_TC_POD_OUT, out(skb, HOOK_TC_POD_OUT, false));
}
