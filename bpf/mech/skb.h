/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* skb.h - what the kernel says of an skb; its header fields translated. */
#ifndef EPROXY_MECH_SKB_H
#define EPROXY_MECH_SKB_H

#include "config.h"
#include "packet.h"

/* bpf_skb_change_tail refuses what is longer than BPF_SKB_MAX_LEN (net/core/filter.c), a little more than this. */
#define SKB_LARGE 16000

#define TC_PASS		     0 /* TC_ACT_OK: on to the stack, or onto the wire */
#define TC_DROP		     2 /* TC_ACT_SHOT */
#define CHECKSUM_UNNECESSARY 1
#define CHECKSUM_COMPLETE    2
#define CHECKSUM_PARTIAL     3

/* The fields of the kernel's sk_buff that have no counterpart in __sk_buff. */
struct sk_buff {
	__u8 ip_summed : 2;
	char cb[48];
} __attribute__((preserve_access_index));

void *bpf_cast_to_kern_ctx(void *) __ksym;

/* The skb's checksum state, CHECKSUM_*. */
static __always_inline __u32 skb_ip_summed(struct __sk_buff *skb)
{
	struct sk_buff *kernel = bpf_cast_to_kern_ctx(skb);

	return BPF_CORE_READ_BITFIELD(kernel, ip_summed);
}

/* Parses the skb, pulling its headers into the linear part if need be. */
static __always_inline enum parse skb_parse(struct __sk_buff *skb, bool ingress, struct packet *p)
{
	enum parse r = packet_parse((void *)(long)skb->data, (void *)(long)skb->data_end, skb->len, ingress, p);

	if (r != PARSE_SHORT)
		return r;
	if (bpf_skb_pull_data(skb, skb->len < PACKET_HEAD ? skb->len : PACKET_HEAD))
		return PARSE_OTHER;
	return packet_parse((void *)(long)skb->data, (void *)(long)skb->data_end, skb->len, ingress, p);
}

/*
 * Rewrites sequence, acknowledgement and window; checksum incrementally (RFC
 * 1624). seq is the position of what is still to be handled.
 */
static __always_inline int skb_translate(struct __sk_buff *skb, const struct packet *p, __u32 seq, __u32 ack, __u16 wnd)
{
	__u32 check = p->l4 + offsetof(struct tcphdr, check);
	__be32 from, to;

	if (seq != p->seg.seq) {
		from = bpf_htonl(p->seg.seq - p->front);
		to = bpf_htonl(seq - p->front);
		if (bpf_l4_csum_replace(skb, check, from, to, 4) ||
		    bpf_skb_store_bytes(skb, p->l4 + offsetof(struct tcphdr, seq), &to, 4, 0))
			return -1;
	}
	if ((p->seg.flags & TH_ACK) && ack != p->seg.ack) {
		from = bpf_htonl(p->seg.ack);
		to = bpf_htonl(ack);
		if (bpf_l4_csum_replace(skb, check, from, to, 4) ||
		    bpf_skb_store_bytes(skb, p->l4 + offsetof(struct tcphdr, ack_seq), &to, 4, 0))
			return -1;
	}
	if (wnd != p->seg.wnd) {
		__be16 from16 = bpf_htons(p->seg.wnd), to16 = bpf_htons(wnd);

		if (bpf_l4_csum_replace(skb, check, from16, to16, 2) ||
		    bpf_skb_store_bytes(skb, p->l4 + offsetof(struct tcphdr, window), &to16, 2, 0))
			return -1;
	}
	return 0;
}

/* Clears TCP flags. */
static __always_inline int skb_drop_flags(struct __sk_buff *skb, const struct packet *p, __u8 drop)
{
	__u8 flags = p->seg.flags & ~drop;
	__be16 from = bpf_htons(p->seg.flags), to = bpf_htons(flags);

	if (from == to)
		return 0;
	if (bpf_l4_csum_replace(skb, p->l4 + offsetof(struct tcphdr, check), from, to, 2))
		return -1;
	return bpf_skb_store_bytes(skb, p->l4 + 13, &flags, 1, 0);
}

#endif
