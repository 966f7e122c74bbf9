/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* frame.h - Ethernet, IP and TCP headers of what the programs send themselves. */
#ifndef EPROXY_MECH_FRAME_H
#define EPROXY_MECH_FRAME_H

#include "csum.h"

/*
 * Headers under construction. Two bytes in front keep IP and TCP aligned,
 * which the verifier demands of packed headers.
 */
struct frame {
	__u16 pad;
	struct ethhdr eth;
	union {
		struct {
			struct iphdr ip;
			struct tcphdr tcp;
		} v4;
		struct {
			struct ipv6hdr ip;
			struct tcphdr tcp;
		} v6;
	};
	__u32 len; /* bytes from eth on */
	__u32 payload_len;
	__u32 pseudo_sum;
	__u32 ifindex;
	__u16 vlan_tci;
	__u16 ipv6;
};

#define FRAME_V4 (ETH_HLEN + 20 + 20)
#define FRAME_V6 (ETH_HLEN + 40 + 20)

/*
 * What an IPv4 header of ours has beyond its length and what the pseudo header
 * has, too: version and header length, don't fragment, time to live.
 */
#define IP_SUM_REST (bpf_htons(0x4500) + bpf_htons(0x4000) + bpf_htons(64 << 8))

static __always_inline void frame_tcp(struct tcphdr *tcp, const struct conn *c, const struct stamp *s, __u8 flags)
{
	tcp->source = c->tuple.local_port;
	tcp->dest = c->tuple.remote_port;
	tcp->seq = bpf_htonl(s->seq);
	tcp->ack_seq = bpf_htonl(s->ack);
	((__u8 *)tcp)[12] = 5 << 4;
	((__u8 *)tcp)[13] = flags;
	tcp->window = bpf_htons(s->wnd);
	tcp->check = 0;
	tcp->urg_ptr = 0;
}

/* Headers from us to the connection's peer. Under the connection's lock: everything is of one generation. */
static __always_inline void frame_fill(struct frame *f, const struct conn *c, const struct stamp *s, __u8 flags,
				       __u32 payload_len)
{
	memcpy(f->eth.h_dest, c->dst_mac, 6);
	memcpy(f->eth.h_source, c->src_mac, 6);
	f->payload_len = payload_len;
	f->ifindex = c->ifindex;
	f->vlan_tci = c->vlan_tci;
	f->pseudo_sum = c->pseudo_sum;
	if (c->flags & CONN_IPV6) {
		f->ipv6 = 1;
		f->len = FRAME_V6;
		f->eth.h_proto = bpf_htons(ETH_P_IPV6);
		*(__be32 *)&f->v6.ip = bpf_htonl(0x60000000);
		f->v6.ip.payload_len = bpf_htons(payload_len + 20);
		f->v6.ip.nexthdr = IPPROTO_TCP;
		f->v6.ip.hop_limit = 64;
		memcpy(&f->v6.ip.saddr, c->tuple.local, 16);
		memcpy(&f->v6.ip.daddr, c->tuple.remote, 16);
		frame_tcp(&f->v6.tcp, c, s, flags);
	} else {
		f->ipv6 = 0;
		f->len = FRAME_V4;
		f->eth.h_proto = bpf_htons(ETH_P_IP);
		*(__u8 *)&f->v4.ip = 0x45;
		f->v4.ip.tos = 0;
		f->v4.ip.tot_len = bpf_htons(payload_len + 40);
		f->v4.ip.id = 0;
		f->v4.ip.frag_off = bpf_htons(0x4000);
		f->v4.ip.ttl = 64;
		f->v4.ip.protocol = IPPROTO_TCP;
		f->v4.ip.saddr = c->tuple.local[3];
		f->v4.ip.daddr = c->tuple.remote[3];
		f->v4.ip.check = csum_fold(c->pseudo_sum + IP_SUM_REST + f->v4.ip.tot_len);
		frame_tcp(&f->v4.tcp, c, s, flags);
	}
}

/* The same headers for a segment that begins at the wire position seq and has len bytes; checksum by RFC 1624. */
static __always_inline void frame_resize(struct frame *f, __u32 seq, __u32 len)
{
	f->payload_len = len;
	if (f->ipv6) {
		f->v6.ip.payload_len = bpf_htons(len + 20);
		f->v6.tcp.seq = bpf_htonl(seq);
	} else {
		__be16 from = f->v4.ip.tot_len, to = bpf_htons(len + 40);

		f->v4.ip.check = csum_fold((__u16)~f->v4.ip.check + (__u16)~from + to);
		f->v4.ip.tot_len = to;
		f->v4.tcp.seq = bpf_htonl(seq);
	}
}

/* The same headers, which have been sent, for a bare ACK with the wire position seq. */
static __always_inline void frame_bare(struct frame *f, __u32 seq)
{
	struct tcphdr *tcp = f->ipv6 ? &f->v6.tcp : &f->v4.tcp;

	frame_resize(f, seq, 0);
	((__u8 *)tcp)[13] = TH_ACK;
	tcp->check = 0;
}

/* The first len of the payload's bytes are TCP options; a multiple of four. */
static __always_inline void frame_options(struct frame *f, __u32 len)
{
	__u8 *tcp = f->ipv6 ? (__u8 *)&f->v6.tcp : (__u8 *)&f->v4.tcp;

	tcp[12] = (5 + len / 4) << 4;
}

/*
 * Headers of a bare ACK from the peer to the local socket; seq, ack and window
 * are what the socket is to see. It has so many bytes of TCP options, which
 * follow. Under the connection's lock.
 */
static __always_inline void frame_fill_local(struct frame *f, const struct conn *c, const struct stamp *s,
					     __u32 options)
{
	struct tcphdr *tcp = c->flags & CONN_IPV6 ? &f->v6.tcp : &f->v4.tcp;

	frame_fill(f, c, s, TH_ACK, options);
	frame_options(f, options);
	memcpy(f->eth.h_dest, c->src_mac, 6);
	memcpy(f->eth.h_source, c->dst_mac, 6);
	if (f->ipv6) {
		memcpy(&f->v6.ip.saddr, c->tuple.remote, 16);
		memcpy(&f->v6.ip.daddr, c->tuple.local, 16);
	} else {
		f->v4.ip.saddr = c->tuple.remote[3];
		f->v4.ip.daddr = c->tuple.local[3];
	}
	tcp->source = c->tuple.remote_port;
	tcp->dest = c->tuple.local_port;
}

/* The sum that does not change with a connection's segments; native order of 16-bit words. */
static __always_inline void frame_sums(struct conn *c)
{
	__u32 sum = 0;

	for (int i = 0; i < 4; i++) {
		if (!(c->flags & CONN_IPV6) && i < 3)
			continue;
		sum += (c->tuple.local[i] & 0xffff) + (c->tuple.local[i] >> 16);
		sum += (c->tuple.remote[i] & 0xffff) + (c->tuple.remote[i] >> 16);
	}
	c->pseudo_sum = sum + bpf_htons(IPPROTO_TCP);
}

/*
 * The TCP checksum. partial: the device or the next stack computes it, only
 * the pseudo header's sum is written (CHECKSUM_PARTIAL). payload_sum is the
 * unfolded sum of the payload otherwise.
 */
static __always_inline void frame_checksum(struct frame *f, bool partial, __u32 payload_sum)
{
	__u32 pseudo = f->pseudo_sum + bpf_htons(f->payload_len + 20);

	if (f->ipv6)
		tcp_checksum(&f->v6.tcp, partial, pseudo, payload_sum);
	else
		tcp_checksum(&f->v4.tcp, partial, pseudo, payload_sum);
}

#endif
