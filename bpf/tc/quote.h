/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * quote.h - ICMP errors about segments sent to devices and pods: "fragmentation
 * needed" and its like. They quote the segment as it was on the wire; the local
 * socket looks for the quoted sequence number among its own (tcp_v4_err,
 * tcp_v6_err).
 */
#ifndef EPROXY_TC_QUOTE_H
#define EPROXY_TC_QUOTE_H

#include "../mech/cut.h"
#include "../work/scratch.h"

/* Message types that quote a segment and whose sequence number the kernel looks at (RFC 792, RFC 4443). */
#define ICMP4_DEST_UNREACH  3 /* code 4: fragmentation needed */
#define ICMP4_FRAG_NEEDED   4 /* the code */
#define ICMP4_TIME_EXCEEDED 11
#define ICMP4_PARAM_PROBLEM 12
#define ICMP6_DEST_UNREACH  1
#define ICMP6_TOO_BIG	    2
#define ICMP6_PARAM_PROBLEM 4 /* between them: packet too big, time exceeded */

#define ICMP_HEAD   8 /* bytes before the quote */
#define QUOTE_LEAST 8 /* bytes of the TCP header that are quoted at least: the ports and the sequence number */

/* Least MTU that is believed, bytes: Linux' net.ipv4.route.min_pmtu, and RFC 8200 section 5. */
#define MTU4_LEAST 552
#define MTU6_LEAST 1280

/* An ICMP error. Places are from the start of the frame. */
struct quote {
	__u32 check;  /* the ICMP checksum */
	__u32 l4;     /* the quoted TCP header */
	__u32 end;    /* behind the last byte of the message */
	__u32 seq;    /* quoted */
	__u32 length; /* of the quoted packet, as its IP header says, bytes */
	__u32 mtu;    /* that the packet was too long for, bytes; NO_MTU: another error */
};

#define NO_MTU 0xffffffffu

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
	__u8 head[ICMP_HEAD];
	__u32 icmp;

	if (bpf_skb_load_bytes(skb, l3, &ip, sizeof(ip)) || ip.protocol != IPPROTO_ICMP || ip.ihl < 5 ||
	    (ip.frag_off & bpf_htons(0x3fff)))
		return QUOTED_OTHER;
	icmp = l3 + ip.ihl * 4;
	q->check = icmp + 2;
	q->end = l3 + bpf_ntohs(ip.tot_len);
	if (bpf_skb_load_bytes(skb, icmp, head, ICMP_HEAD) ||
	    (head[0] != ICMP4_DEST_UNREACH && head[0] != ICMP4_TIME_EXCEEDED && head[0] != ICMP4_PARAM_PROBLEM))
		return QUOTED_OTHER;
	if (head[0] == ICMP4_DEST_UNREACH && head[1] == ICMP4_FRAG_NEEDED)
		q->mtu = head[6] << 8 | head[7]; /* RFC 1191 section 4 */
	if (bpf_skb_load_bytes(skb, icmp + ICMP_HEAD, &ip, sizeof(ip)))
		return QUOTED_PART;
	/* of a fragment, only the first has the TCP header */
	if (ip.protocol != IPPROTO_TCP || (ip.frag_off & bpf_htons(0x1fff)))
		return QUOTED_OTHER;
	tuple_v4(tuple->local, ip.saddr);
	tuple_v4(tuple->remote, ip.daddr);
	q->l4 = icmp + ICMP_HEAD + ip.ihl * 4;
	q->length = bpf_ntohs(ip.tot_len);
	return ip.ihl >= 5 ? quote_enough(skb, q) : QUOTED_PART;
}

/* Reads the ICMPv6 message of the IPv6 packet at l3; tuple gets the quoted addresses. */
static __always_inline enum quoted quote_v6(struct __sk_buff *skb, __u32 l3, struct tuple *tuple, struct quote *q)
{
	__u32 icmp = l3 + sizeof(struct ipv6hdr);
	__be32 head[ICMP_HEAD / 4];
	struct ipv6hdr ip;
	__u8 type;

	if (bpf_skb_load_bytes(skb, l3, &ip, sizeof(ip)) || ip.nexthdr != IPPROTO_ICMPV6)
		return QUOTED_OTHER;
	q->check = icmp + 2;
	q->end = icmp + bpf_ntohs(ip.payload_len);
	if (bpf_skb_load_bytes(skb, icmp, head, ICMP_HEAD))
		return QUOTED_OTHER;
	type = *(__u8 *)head;
	if (type < ICMP6_DEST_UNREACH || type > ICMP6_PARAM_PROBLEM)
		return QUOTED_OTHER;
	if (type == ICMP6_TOO_BIG)
		q->mtu = bpf_ntohl(head[1]); /* RFC 4443 section 3.2 */
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
	q->length = sizeof(ip) + bpf_ntohs(ip.payload_len);
	return quote_enough(skb, q);
}

/* Reads the ICMP message in the frame, with at most one VLAN tag. */
static __always_inline enum quoted quote_message(struct __sk_buff *skb, struct tuple *tuple, struct quote *q)
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
 * Reads the frame: its quote, and the 4-tuple that is quoted. The result is
 * QUOTED_PART only if the connection cannot be told.
 */
static __always_inline enum quoted quote_read(struct __sk_buff *skb, struct tuple *tuple, struct quote *q)
{
	enum quoted quoted;
	__be32 words[2];

	memset(q, 0, sizeof(*q));
	q->mtu = NO_MTU;
	quoted = quote_message(skb, tuple, q);
	if (quoted != QUOTED_TCP)
		return quoted;
	if (bpf_skb_load_bytes(skb, q->l4, words, QUOTE_LEAST))
		return QUOTED_OTHER;
	tuple->local_port = ((__be16 *)words)[0];
	tuple->remote_port = ((__be16 *)words)[1];
	q->seq = bpf_ntohl(words[1]);
	return QUOTED_TCP;
}

/*
 * The quoted sequence number changes. One checksum makes up for it: that of the
 * quoted segment, if it is quoted, which keeps both right; else that of the
 * message. The quoted acknowledgement and window stay as they were on the wire:
 * nobody looks at them. Returns 0 or -1.
 */
static __always_inline int quote_translate(struct __sk_buff *skb, const struct quote *q, __u32 to_seq)
{
	__u32 check = q->l4 + offsetof(struct tcphdr, check);
	__be32 from = bpf_htonl(q->seq), to = bpf_htonl(to_seq);

	if (q->seq == to_seq)
		return 0;
	if (bpf_l4_csum_replace(skb, check + 2 <= q->end ? check : q->check, from, to, 4))
		return -1;
	return bpf_skb_store_bytes(skb, q->l4 + offsetof(struct tcphdr, seq), &to, 4, 0);
}

/*
 * Whether the message arrived as it was sent. The stack looks later, but what is
 * done here would be done. (RFC 792, RFC 4443 section 2.3; the sums are of 16-bit
 * words in native order.)
 */
static __always_inline bool quote_intact(struct __sk_buff *skb, struct scratch *s, const struct quote *q)
{
	__u32 icmp = q->check - 2, summed = skb_ip_summed(skb), at = icmp - sizeof(struct ipv6hdr);
	struct range_sum r = { .skb = skb, .work = s->work, .off = icmp, .end = q->end };
	struct ipv6hdr ip;
	__s64 sum;

	if (summed == CHECKSUM_UNNECESSARY)
		return true;
	if (summed == CHECKSUM_PARTIAL) /* no router's */
		return false;
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)))
			return false;
		sum = bpf_csum_diff(NULL, 0, (__be32 *)&ip.saddr, 2 * sizeof(ip.saddr),
				    bpf_htons(q->end - icmp) + bpf_htons(IPPROTO_ICMPV6));
		if (sum < 0)
			return false;
		r.sum = sum;
	}
	return !skb_range_sum(&r) && !csum_fold(r.sum);
}

/* Whether the message says that the quoted packet was too long for the path (RFC 5927 section 7.2). */
static __always_inline bool quote_too_long(const struct quote *q)
{
	return q->mtu != NO_MTU && q->length > q->mtu;
}

/* Bytes of one segment that quote_too_long leaves. */
static __always_inline __u32 quote_mss(const struct quote *q, bool ipv6)
{
	__u32 least = ipv6 ? MTU6_LEAST : MTU4_LEAST, headers = (ipv6 ? 40 : 20) + sizeof(struct tcphdr);

	return (q->mtu < least ? least : q->mtu) - headers;
}

#endif
