/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * device_in.bpf.c - TC ingress at the node interface: everything that XDP left.
 * Takes a PUBLISH (XDP off, unsupported, or headroom too small), keeps the
 * ledger of what passes, answers for what the programs took.
 */
#include "../mech/socket.h"
#include "../mech/syn.h"
#include "../take/burst.h"
#include "device_rest.h"
#include "icmp.h"
#include "listener.h"

/* The last message's request, and those that leave with it, take the place of the skb. */
static __always_inline int burst_end(struct __sk_buff *skb, struct scratch *s, struct burst *b)
{
	if (group_make(skb, &s->group))
		return exit_for(REASON_REDIRECT_ERROR, TC_DROP);
	if (device_news(b->t.conn)) {
		/* the skb is a request by now: a copy goes to the pod */
		if (bpf_clone_redirect(skb, s->group.frame.ifindex, 0))
			count(HOOK_TC_DEVICE_IN, REASON_REDIRECT_ERROR);
		return device_local_ack(skb, b->t.conn);
	}
	if (s->taking.sent) /* behind the clones, not past them */
		return bpf_redirect(s->group.frame.ifindex, 0);
	return skb_to_pod(s->group.slot, &s->group.frame);
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
 * Returns exit_for, or DEVICE_REST. A function of its own, for the size of the stack.
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
		return skb_strip_syn(skb, p) ? exit_for(REASON_SYN_ERROR, TC_DROP)
					     : exit_for(REASON_LISTENER_SYN, TC_PASS);
	}
	c = flow_find(&p->tuple, &conn);
	if (!c || conn < knob_slots)
		return TC_PASS;
	if (!device_entry(conn))
		return exit_for(REASON_NO_ENTRY, TC_PASS);
	if (!conn_live(c)) {
		if (c->state == CONN_ARMED && (p->seg.len || (p->seg.flags & TH_FIN)))
			device_ask(skb, conn);
		if (!conn_live(c)) /* if it was seeded just now, the segment belongs in its books */
			return exit_for(REASON_NOT_OPEN, TC_PASS);
	}
	if (skb_corrupt(skb, &s->packet, s->work, c)) /* the stack drops and counts it, too */
		return exit_for(REASON_BAD_CHECKSUM, TC_PASS);
	if (*(volatile __u32 *)&c->rx_hole != *(volatile __u32 *)&c->rx_nxt &&
	    (p->seg.len || (p->seg.flags & (TH_FIN | TH_RST))))
		device_ask(skb, conn);
	if ((!p->plain || !p->seg.len) && device_blocks(skb, conn))
		device_repair(skb, conn);
	s->conn = conn;
	return DEVICE_REST;
}

/*
 * The exit of a message that is not taken, for s->admit.refused: counted, remembered, and shown to who looks. Returns 0. A function
 * of its own, for the size of the stack.
 */
__attribute__((noinline)) int message_left(struct __sk_buff *skb, __u32 conn)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	struct device *d = device_entry(conn);

	if (!s || !d)
		return 0;
	count(HOOK_TC_DEVICE_IN, s->admit.refused);
	/* a packet of another kind, or more of a message that is known as left */
	if (s->admit.refused == REASON_NOT_PUBLISH || s->admit.refused == REASON_NO_BOUNDARY)
		return 0;
	d->not_taken = s->admit.refused;
	if (tracing() & TRACE_LOOK)
		trace_left(skb, conn);
	return 0;
}

/*
 * Looks at where the segment begins, once what was kept has met it. Returns the bytes at its front that are known, behind which
 * the packet begins now.
 */
static __always_inline __u32 device_front(struct scratch *s, struct conn *c, bool large)
{
	struct packet *p = &s->packet;
	__u32 front = 0;

	if (!large && (afresh(s->admit.kept) || p->seg.seq == *(volatile __u32 *)&c->rx_nxt))
		return 0;
	bpf_spin_lock(&c->lock);
	if (!afresh(s->admit.kept)) /* else its front is not in the packet */
		front = conn_front(c, &p->seg);
	s->arrival.lags = !conn_caught_up(c);
	s->arrival.known = seq_le(p->seg.seq + p->seg.len, c->rx_nxt);
	bpf_spin_unlock(&c->lock);
	packet_advance(p, front);
	return front;
}

/* Takes the messages of the segment, as many as can be; s->admit.refused says why no more were, s->taking what was. */
static __always_inline void device_burst(struct burst *b, struct scratch *s, bool large)
{
	/* what is known is not refused */
	s->admit.refused = afresh(s->arrival.known) ? REASON_TAKEN : REASON_TCP_FLAGS;
	s->taking.sent = 0;
	s->taking.last = 0;
	s->group.count = 0;
	s->taking.early = 0;
	s->taking.queue_count = 0;
	/* too long to be cut: what is left must be able to pass behind its front */
	if (large && afresh(s->arrival.lags))
		s->admit.refused = REASON_MULTI;
	else if (s->packet.l3 == ETH_HLEN && !afresh(s->arrival.known))
		bpf_loop(BURST_MAX, burst_turn, b, 0);
}

/*
 * What was taken of the segment leaves; again: what the socket lacks of its front follows, the segment comes
 * again, and only that is passed of it. Returns exit_for, or DEVICE_REST.
 */
static __always_inline int device_taken(struct __sk_buff *skb, struct scratch *s, struct burst *b, bool again)
{
	if (again && bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS))
		count(HOOK_TC_DEVICE_IN, REASON_REDIRECT_ERROR);
	if (afresh(s->taking.last) && !afresh(s->taking.early))
		return burst_end(skb, s, b);
	if (afresh(s->group.count))
		burst_flush(skb, s);
	device_unpark(skb, s);
	if (afresh(s->taking.last))
		return device_early(skb, b->t.conn);
	if (afresh(s->admit.refused))
		message_left(skb, b->t.conn);
	return DEVICE_REST;
}

/*
 * Takes the messages of a segment with payload. Returns exit_for, or DEVICE_REST: some of it is left.
 * A function of its own, for the size of the stack.
 */
__attribute__((noinline)) int device_take(struct __sk_buff *skb, __u32 conn)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	bool large = skb->len > SKB_LARGE, taken, again;
	int remainder = 0;
	struct burst b = {};
	struct packet *p;
	__u32 front;

	if (!s)
		return TC_PASS;
	p = b.t.p = &s->packet;
	b.skb = skb;
	b.s = s;
	b.t.conn = conn;
	b.t.c = conn_entry(conn);
	b.t.d = device_entry(conn);
	if (!b.t.c || !b.t.d)
		return exit_for(REASON_NO_ENTRY, TC_PASS);
	s->arrival.lags = 0;
	s->arrival.known = 0;
	s->admit.kept = 0;
	if (*(volatile __u8 *)&b.t.d->kept && keep_meet(skb, conn)) {
		count(HOOK_TC_DEVICE_IN, REASON_KEPT);
		return device_early(skb, conn);
	}
	front = device_front(s, b.t.c, large);
	if (!front && !afresh(s->arrival.known) && !large && p->plain && !framing_at_boundary(&b.t.d->framing) &&
	    !(p->seg.flags & (TH_SYN | TH_RST | TH_URG)))
		remainder = device_pass_remainder(skb, conn);
	device_burst(&b, s, large);
	if (afresh(s->admit.kept) && keep_vain(skb, conn))
		return exit_for(REASON_CUT_ERROR, TC_DROP);
	taken = afresh(s->taking.sent) || afresh(s->group.count) || afresh(s->taking.early);
	again = taken && (remainder || (front && afresh(s->arrival.lags)));
	if (taken && afresh(s->admit.refused) == REASON_PARTIAL && !(again && large) &&
	    keep_beginning(skb, conn, again)) {
		count(HOOK_TC_DEVICE_IN, REASON_KEPT);
		s->taking.last = 1;
	}
	return device_taken(skb, s, &b, again);
}

/* What becomes of a packet from a device: exit_for. */
static __always_inline int device_in(struct __sk_buff *skb, struct scratch *s)
{
	int exit = device_seen(skb);
	__u32 conn;

	if (exit != DEVICE_REST)
		return exit;
	conn = s->conn;
	if (s->packet.seg.len) {
		exit = device_take(skb, conn);
		if (exit != DEVICE_REST)
			return exit;
	}
	exit = device_rest(skb, conn);
	if (exit == REST_RESEND)
		return device_resend(skb);
	if (exit == REST_CLOSE_UP)
		return device_close_up(skb);
	return exit == REST_REPLY ? device_reply(skb, conn) : exit;
}

/* TC ingress of the node interfaces (struct __sk_buff). */
SEC("tc")
int tc_device_in(struct __sk_buff *skb)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);

	return s ? leave(HOOK_TC_DEVICE_IN, device_in(skb, s)) : TC_PASS;
}
