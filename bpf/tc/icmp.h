/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* icmp.h - ICMP errors about segments in flight. */
#ifndef EPROXY_TC_ICMP_H
#define EPROXY_TC_ICMP_H

#include "../mech/flow.h"
#include "../mech/verdict.h"
#include "quote.h"
#include "../upstream/resend.h"

/*
 * What is no TCP segment: an ICMP error about a segment in flight gets the local
 * socket's sequence number in its quote; everything else passes as it is.
 * Returns exit_for. A function of its own for the verifier, and for the
 * size of the stack.
 */
__attribute__((noinline)) int device_icmp(struct __sk_buff *skb)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	bool live = false, flying = false;
	__u32 conn, to = 0;
	struct conn *c;
	struct quote q;

	if (!s)
		return TC_PASS;
	switch (quote_read(skb, &s->packet.tuple, &q)) {
	case QUOTED_TCP:
		break;
	case QUOTED_PART:
		return exit_for(REASON_ICMP_PART, TC_PASS);
	default:
		return TC_PASS;
	}
	c = flow_find(&s->packet.tuple, &conn);
	if (!c || conn < knob_slots)
		return TC_PASS;
	bpf_spin_lock(&c->lock);
	if (conn_live(c) && c->tuple.remote_port == s->packet.tuple.remote_port) {
		live = true;
		flying = conn_quoted(c, q.seq, &to);
	}
	bpf_spin_unlock(&c->lock);
	if (!live)
		return exit_for(REASON_NOT_OPEN, TC_PASS);
	if (!flying)
		return exit_for(REASON_ICMP_STRAY, TC_PASS);
	if (quote_translate(skb, &q, to))
		return exit_for(REASON_TRANSLATE_ERROR, TC_DROP);
	return exit_for(REASON_ICMP_TRANSLATED, TC_PASS);
}

/* What an ICMP error says of a slot's connection. */
struct pod_error {
	bool live;
	bool flying; /* it quotes what is in flight, */
	bool lower;  /* and the path takes shorter segments than was known */
	__u32 to;    /* the local socket's sequence number of that */
	__u32 gen;   /* of the slot, and the requests */
	__u32 first; /* [first, end) that are to be sent again */
	__u32 end;
};

/* Looks into the books; intact: the segment was too long for the path, which nobody has forged or changed on the way. */
static __always_inline void pod_error_look(const struct scratch *s, struct conn *c, struct slot *slot, struct pod *pod,
					   const struct quote *q, bool intact, struct pod_error *e)
{
	__u32 now_ms = bpf_ktime_get_ns() / 1000000, mss;

	bpf_spin_lock(&c->lock);
	if (conn_live(c) && c->tuple.remote_port == s->packet.tuple.remote_port &&
	    c->tuple.local_port == s->packet.tuple.local_port) {
		e->live = true;
		e->flying = conn_quoted(c, q->seq, &e->to);
		if (intact && e->flying && q->seq != c->tx_nxt) {
			mss = quote_mss(q, c->flags & CONN_IPV6);
			e->lower = mss < slot_mss(pod, c, now_ms);
			if (e->lower) {
				pod->path_ms = now_ms;
				pod->path_mss = mss;
			}
			if (e->lower || !recovery_again(&slot->recovery, c, q->seq)) {
				recovery_all(&slot->recovery, c);
				e->gen = c->gen;
				e->first = slot->acked;
				e->end = slot->tail;
			}
		}
	}
	bpf_spin_unlock(&c->lock);
}

/*
 * The same for what comes from the pods' side. An error that says that a request
 * was too long for the path also keeps the programs from making more like it, and
 * names for pod_resend those that the slot has in flight: the local socket knows of
 * none.
 */
__attribute__((noinline)) int pod_icmp(struct __sk_buff *skb)
{
	struct scratch *s = scratch_of(HOOK_TC_POD_IN);
	struct pod_error e = {};
	__u32 index, pod_key;
	struct slot *slot;
	struct quote q;
	struct conn *c;
	struct pod *pod;

	if (!s)
		return TC_PASS;
	requests_lost(&s->piece, 0, 0, 0, 0);
	switch (quote_read(skb, &s->packet.tuple, &q)) {
	case QUOTED_TCP:
		break;
	case QUOTED_PART:
		return exit_for(REASON_ICMP_PART, TC_PASS);
	default:
		return TC_PASS;
	}
	c = flow_find(&s->packet.tuple, &index);
	if (!c || index >= knob_slots)
		return TC_PASS;
	slot = slot_entry(index);
	if (!slot)
		return exit_for(REASON_NO_ENTRY, TC_PASS);
	pod_key = slot->pod;
	pod = bpf_map_lookup_elem(&pods, &pod_key);
	if (!pod)
		return exit_for(REASON_NO_ENTRY, TC_PASS);
	pod_error_look(s, c, slot, pod, &q, quote_too_long(&q) && quote_intact(skb, s, &q), &e);
	if (!e.live)
		return exit_for(REASON_NOT_OPEN, TC_PASS);
	if (!e.flying)
		return exit_for(REASON_ICMP_STRAY, TC_PASS);
	if (e.lower)
		count(HOOK_TC_POD_IN, REASON_PATH_MTU);
	requests_lost(&s->piece, index, e.gen, e.first, e.end);
	if (quote_translate(skb, &q, e.to))
		return exit_for(REASON_TRANSLATE_ERROR, TC_DROP);
	return exit_for(REASON_ICMP_TRANSLATED, TC_PASS);
}

#endif
