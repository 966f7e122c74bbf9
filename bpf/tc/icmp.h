/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * icmp.h - ICMP errors about segments sent to devices: "fragmentation needed" and
 * its like. They quote the segment as it was on the wire; the local socket looks
 * for the quoted sequence number among its own (tcp_v4_err, tcp_v6_err).
 */
#ifndef EPROXY_ICMP_H
#define EPROXY_ICMP_H

#include "../include/skb.h"

/* Message types that quote a segment and whose sequence number the kernel looks at (RFC 792, RFC 4443). */
#define ICMP4_DEST_UNREACH  3 /* code 4: fragmentation needed */
#define ICMP4_TIME_EXCEEDED 11
#define ICMP4_PARAM_PROBLEM 12
#define ICMP6_DEST_UNREACH  1
#define ICMP6_PARAM_PROBLEM 4 /* between them: packet too big, time exceeded */

#define ICMP_HEAD   8 /* bytes before the quote */
#define QUOTE_LEAST 8 /* bytes of the TCP header that are quoted at least: the ports and the sequence number */

/* Where things are in an ICMP error, from the start of the frame. */
struct quote {
	__u32 check; /* the ICMP checksum */
	__u32 l4;    /* the quoted TCP header */
	__u32 end;   /* behind the last byte of the message */
};

enum quoted {
	QUOTED_TCP,   /* the ports and the sequence number are there */
	QUOTED_PART,  /* perhaps TCP, but not simple, or too little of it */
	QUOTED_OTHER, /* no ICMP error, or none about TCP */
};

/* Whether the message [l4, end) holds what is wanted of the quoted TCP header. */
static __always_inline enum quoted quote_enough(struct __sk_buff *skb, const struct quote *q)
{
	return q->l4 + QUOTE_LEAST <= q->end && q->end <= skb->len ? QUOTED_TCP : QUOTED_PART;
}

/* Reads the ICMPv4 message of the IPv4 packet at l3; tuple gets the quoted addresses. */
static __always_inline enum quoted quote_v4(struct __sk_buff *skb, __u32 l3, struct tuple *tuple, struct quote *q)
{
	struct iphdr ip;
	__u32 icmp;
	__u8 type;

	if (bpf_skb_load_bytes(skb, l3, &ip, sizeof(ip)) || ip.protocol != IPPROTO_ICMP || ip.ihl < 5 ||
	    (ip.frag_off & bpf_htons(0x3fff)))
		return QUOTED_OTHER;
	icmp = l3 + ip.ihl * 4;
	q->check = icmp + 2;
	q->end = l3 + bpf_ntohs(ip.tot_len);
	if (bpf_skb_load_bytes(skb, icmp, &type, 1) ||
	    (type != ICMP4_DEST_UNREACH && type != ICMP4_TIME_EXCEEDED && type != ICMP4_PARAM_PROBLEM))
		return QUOTED_OTHER;
	if (bpf_skb_load_bytes(skb, icmp + ICMP_HEAD, &ip, sizeof(ip)))
		return QUOTED_PART;
	/* of a fragment, only the first has the TCP header */
	if (ip.protocol != IPPROTO_TCP || (ip.frag_off & bpf_htons(0x1fff)))
		return QUOTED_OTHER;
	tuple_v4(tuple->local, ip.saddr);
	tuple_v4(tuple->remote, ip.daddr);
	q->l4 = icmp + ICMP_HEAD + ip.ihl * 4;
	return ip.ihl >= 5 ? quote_enough(skb, q) : QUOTED_PART;
}

/* Reads the ICMPv6 message of the IPv6 packet at l3; tuple gets the quoted addresses. */
static __always_inline enum quoted quote_v6(struct __sk_buff *skb, __u32 l3, struct tuple *tuple, struct quote *q)
{
	__u32 icmp = l3 + sizeof(struct ipv6hdr);
	struct ipv6hdr ip;
	__u8 type;

	if (bpf_skb_load_bytes(skb, l3, &ip, sizeof(ip)) || ip.nexthdr != IPPROTO_ICMPV6)
		return QUOTED_OTHER;
	q->check = icmp + 2;
	q->end = icmp + bpf_ntohs(ip.payload_len);
	if (bpf_skb_load_bytes(skb, icmp, &type, 1) || type < ICMP6_DEST_UNREACH || type > ICMP6_PARAM_PROBLEM)
		return QUOTED_OTHER;
	if (bpf_skb_load_bytes(skb, icmp + ICMP_HEAD, &ip, sizeof(ip)))
		return QUOTED_PART;
	switch (ip.nexthdr) {
	case IPPROTO_TCP:
		break;
	case IPPROTO_HOPOPTS: /* the local sockets send none; who follows them finds TCP, or does not */
	case IPPROTO_ROUTING:
	case IPPROTO_FRAGMENT:
	case IPPROTO_DSTOPTS:
		return QUOTED_PART;
	default:
		return QUOTED_OTHER;
	}
	memcpy(tuple->local, &ip.saddr, 16);
	memcpy(tuple->remote, &ip.daddr, 16);
	q->l4 = icmp + ICMP_HEAD + sizeof(ip);
	return quote_enough(skb, q);
}

/* Reads the frame, with at most one VLAN tag. */
static __always_inline enum quoted quote_read(struct __sk_buff *skb, struct tuple *tuple, struct quote *q)
{
	__u32 l3 = ETH_HLEN;
	__be16 proto;

	if (bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_proto), &proto, 2))
		return QUOTED_OTHER;
	if (vlan_tagged(proto)) {
		if (bpf_skb_load_bytes(skb, l3 + offsetof(struct vlan_tag, proto), &proto, 2))
			return QUOTED_OTHER;
		l3 += sizeof(struct vlan_tag);
	}
	if (proto == bpf_htons(ETH_P_IP))
		return quote_v4(skb, l3, tuple, q);
	if (proto == bpf_htons(ETH_P_IPV6))
		return quote_v6(skb, l3, tuple, q);
	return QUOTED_OTHER;
}

/*
 * The quoted sequence number changes. One checksum makes up for it: that of the
 * quoted segment, if it is quoted, which keeps both right; else that of the
 * message. The quoted acknowledgement and window stay as they were on the wire:
 * nobody looks at them. Returns 0 or -1.
 */
static __always_inline int quote_translate(struct __sk_buff *skb, const struct quote *q, __u32 seq, __u32 to_seq)
{
	__u32 check = q->l4 + offsetof(struct tcphdr, check);
	__be32 from = bpf_htonl(seq), to = bpf_htonl(to_seq);

	if (seq == to_seq)
		return 0;
	if (bpf_l4_csum_replace(skb, check + 2 <= q->end ? check : q->check, from, to, 4))
		return -1;
	return bpf_skb_store_bytes(skb, q->l4 + offsetof(struct tcphdr, seq), &to, 4, 0);
}

/*
 * What is no TCP segment: an ICMP error about a segment in flight gets the local
 * socket's sequence number in its quote; everything else passes as it is.
 * Returns the TC verdict. A function of its own for the verifier, and for the
 * size of the stack.
 */
__attribute__((noinline)) int device_icmp(struct __sk_buff *skb)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	struct quote q = {};
	bool live = false, flying = false;
	struct tuple *tuple;
	struct conn *c;
	__be32 words[2];
	__u32 conn, seq, to = 0;

	if (!s)
		return TC_PASS;
	tuple = &s->packet.tuple;
	switch (quote_read(skb, tuple, &q)) {
	case QUOTED_TCP:
		break;
	case QUOTED_PART:
		return counted(HOOK_TC_DEVICE_IN, REASON_ICMP_PART, TC_PASS);
	default:
		return TC_PASS;
	}
	if (bpf_skb_load_bytes(skb, q.l4, words, QUOTE_LEAST))
		return TC_PASS;
	tuple->local_port = ((__be16 *)words)[0];
	tuple->remote_port = ((__be16 *)words)[1];
	seq = bpf_ntohl(words[1]);
	c = flow_find(tuple, &conn);
	if (!c || conn < knob_slots)
		return TC_PASS;
	bpf_spin_lock(&c->lock);
	if (conn_live(c) && c->tuple.remote_port == tuple->remote_port) {
		live = true;
		flying = conn_quoted(c, seq, &to);
	}
	bpf_spin_unlock(&c->lock);
	if (!live)
		return counted(HOOK_TC_DEVICE_IN, REASON_NOT_OPEN, TC_PASS);
	if (!flying)
		return counted(HOOK_TC_DEVICE_IN, REASON_ICMP_STRAY, TC_PASS);
	if (quote_translate(skb, &q, seq, to))
		return counted(HOOK_TC_DEVICE_IN, REASON_TRANSLATE_ERROR, TC_DROP);
	return counted(HOOK_TC_DEVICE_IN, REASON_ICMP_TRANSLATED, TC_PASS);
}

#endif
