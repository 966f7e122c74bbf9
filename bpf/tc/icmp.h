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
 * Returns the TC verdict. A function of its own for the verifier, and for the
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
		return counted(HOOK_TC_DEVICE_IN, REASON_ICMP_PART, TC_PASS);
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
		return counted(HOOK_TC_DEVICE_IN, REASON_NOT_OPEN, TC_PASS);
	if (!flying)
		return counted(HOOK_TC_DEVICE_IN, REASON_ICMP_STRAY, TC_PASS);
	if (quote_translate(skb, &q, to))
		return counted(HOOK_TC_DEVICE_IN, REASON_TRANSLATE_ERROR, TC_DROP);
	return counted(HOOK_TC_DEVICE_IN, REASON_ICMP_TRANSLATED, TC_PASS);
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
	bool live = false, flying = false, lower = false, intact;
	__u32 index, pod_key, to = 0, now_ms, mss, gen = 0, first = 0, end = 0;
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
		return counted(HOOK_TC_POD_IN, REASON_ICMP_PART, TC_PASS);
	default:
		return TC_PASS;
	}
	c = flow_find(&s->packet.tuple, &index);
	if (!c || index >= knob_slots)
		return TC_PASS;
	slot = slot_entry(index);
	if (!slot)
		return counted(HOOK_TC_POD_IN, REASON_NO_ENTRY, TC_PASS);
	pod_key = slot->pod;
	pod = bpf_map_lookup_elem(&pods, &pod_key);
	if (!pod)
		return counted(HOOK_TC_POD_IN, REASON_NO_ENTRY, TC_PASS);
	intact = quote_too_long(&q) && quote_intact(skb, s, &q);
	now_ms = bpf_ktime_get_ns() / 1000000;
	bpf_spin_lock(&c->lock);
	if (conn_live(c) && c->tuple.remote_port == s->packet.tuple.remote_port &&
	    c->tuple.local_port == s->packet.tuple.local_port) {
		live = true;
		flying = conn_quoted(c, q.seq, &to);
		if (intact && flying && q.seq != c->tx_nxt) {
			mss = quote_mss(&q, c->flags & CONN_IPV6);
			lower = mss < slot_mss(pod, c, now_ms);
			if (lower) {
				pod->path_ms = now_ms;
				pod->path_mss = mss;
			}
			if (lower || !recovery_again(&slot->recovery, c, q.seq)) {
				recovery_all(&slot->recovery, c);
				gen = c->gen;
				first = slot->acked;
				end = slot->tail;
			}
		}
	}
	bpf_spin_unlock(&c->lock);
	if (!live)
		return counted(HOOK_TC_POD_IN, REASON_NOT_OPEN, TC_PASS);
	if (!flying)
		return counted(HOOK_TC_POD_IN, REASON_ICMP_STRAY, TC_PASS);
	if (lower)
		count(HOOK_TC_POD_IN, REASON_PATH_MTU);
	requests_lost(&s->piece, index, gen, first, end);
	if (quote_translate(skb, &q, to))
		return counted(HOOK_TC_POD_IN, REASON_TRANSLATE_ERROR, TC_DROP);
	return counted(HOOK_TC_POD_IN, REASON_ICMP_TRANSLATED, TC_PASS);
}

#endif
