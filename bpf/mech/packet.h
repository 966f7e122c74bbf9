/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* packet.h - Ethernet, at most one VLAN tag, IPv4 or IPv6, TCP: from bytes to struct packet. */
#ifndef EPROXY_MECH_PACKET_H
#define EPROXY_MECH_PACKET_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#include "../pure/conn.h"

/* Headers of the largest frame that is understood: VLAN tag, IPv6, TCP with all options. */
#define PACKET_HEAD (ETH_HLEN + 4 + 40 + 60)

struct vlan_tag {
	__be16 tci;
	__be16 proto;
};

/* A TCP segment, with offsets from the start of the frame. */
struct packet {
	struct tuple tuple; /* local is us, remote the peer, in either direction */
	struct segment seg;
	__u16 l3;
	__u16 l4;
	__u32 payload; /* of what is still to be handled */
	__u32 front;   /* payload bytes before that: known, recorded as passed, or taken */
	__u8 ipv6;
	__u8 plain; /* no TCP options (at TC: but SACK), no IPv4 options */
	__u16 pad;
};

/* The first n payload bytes are done with: what follows is handled as a segment of its own. */
static __always_inline void packet_advance(struct packet *p, __u32 n)
{
	p->payload += n;
	p->front += n;
	p->seg.seq += n;
	p->seg.len -= n;
}

/* Bytes of the TCP header with its options. */
static __always_inline __u32 packet_tcp_len(const struct packet *p)
{
	return p->payload - p->front - p->l4;
}

/* Whether an Ethernet header's protocol says that a VLAN tag follows. */
static __always_inline bool vlan_tagged(__be16 proto)
{
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD);
}

enum parse {
	PARSE_TCP,
	PARSE_OTHER, /* not a TCP segment, a fragment, or longer than the frame */
	PARSE_SHORT, /* headers are not all in the linear part */
};

static __always_inline void tuple_v4(__be32 dst[4], __be32 addr)
{
	dst[0] = 0;
	dst[1] = 0;
	dst[2] = bpf_htonl(0xffff);
	dst[3] = addr;
}

/*
 * Reads the IP header behind *l3, which moves behind a VLAN tag: *l4 is where TCP begins, *total how long the packet says that it
 * is, 0: it cannot. Returns PARSE_TCP if there may be a whole TCP segment.
 */
static __always_inline enum parse packet_ip(void *data, void *end, bool ingress, struct packet *p, __u32 *l3, __u32 *l4,
					    __u32 *total)
{
	__be32 *src = ingress ? p->tuple.remote : p->tuple.local;
	__be32 *dst = ingress ? p->tuple.local : p->tuple.remote;
	struct ethhdr *eth = data;
	__be16 proto;

	if ((void *)(eth + 1) > end)
		return PARSE_SHORT;
	proto = eth->h_proto;
	if (vlan_tagged(proto)) {
		struct vlan_tag *tag = data + ETH_HLEN;

		if ((void *)(tag + 1) > end)
			return PARSE_SHORT;
		proto = tag->proto;
		*l3 += sizeof(*tag);
	}
	if (proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = data + *l3;

		if ((void *)(ip + 1) > end)
			return PARSE_SHORT;
		/* IPv4 options and fragments are the stack's */
		if (ip->protocol != IPPROTO_TCP || ip->ihl != 5 || (ip->frag_off & bpf_htons(0x3fff)))
			return PARSE_OTHER;
		tuple_v4(src, ip->saddr);
		tuple_v4(dst, ip->daddr);
		*total = bpf_ntohs(ip->tot_len);
		*l4 = *l3 + sizeof(*ip);
		p->ipv6 = 0;
	} else if (proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = data + *l3;

		if ((void *)(ip + 1) > end)
			return PARSE_SHORT;
		if (ip->nexthdr != IPPROTO_TCP)
			return PARSE_OTHER;
		memcpy(src, &ip->saddr, 16);
		memcpy(dst, &ip->daddr, 16);
		*total = bpf_ntohs(ip->payload_len);
		if (*total)
			*total += sizeof(*ip);
		*l4 = *l3 + sizeof(*ip);
		p->ipv6 = 1;
	} else {
		return PARSE_OTHER;
	}
	return PARSE_TCP;
}

static __always_inline enum parse packet_parse(void *data, void *end, __u32 frame_len, bool ingress, struct packet *p)
{
	__u32 total, l3 = ETH_HLEN, l4;
	struct tcphdr *tcp;
	enum parse parse;

	parse = packet_ip(data, end, ingress, p, &l3, &l4, &total);
	if (parse != PARSE_TCP)
		return parse;
	tcp = data + l4;
	if ((void *)(tcp + 1) > end)
		return PARSE_SHORT;
	if (!total) /* BIG TCP: the length field cannot say */
		total = frame_len - l3;
	if (l3 + total > frame_len || tcp->doff < 5 || total < l4 - l3 + tcp->doff * 4)
		return PARSE_OTHER;
	p->l3 = l3;
	p->l4 = l4;
	p->payload = l4 + tcp->doff * 4;
	p->plain = tcp->doff == 5;
	p->tuple.local_port = ingress ? tcp->dest : tcp->source;
	p->tuple.remote_port = ingress ? tcp->source : tcp->dest;
	p->seg.seq = bpf_ntohl(tcp->seq);
	p->seg.ack = bpf_ntohl(tcp->ack_seq);
	p->seg.wnd = bpf_ntohs(tcp->window);
	p->seg.flags = ((__u8 *)tcp)[13];
	p->seg.len = l3 + total - p->payload;
	p->seg.remove = 0;
	p->seg.sack = 0;
	p->seg.in_order = 0;
	p->front = 0;
	return PARSE_TCP;
}

#endif
