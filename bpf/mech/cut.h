/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* cut.h - checksums of an skb's payload, and payload removed from its front or its end. */
#ifndef EPROXY_MECH_CUT_H
#define EPROXY_MECH_CUT_H

#include "frame.h"
#include "skb.h"

/* Bytes of work space that checksums of a range take. */
#define WORK_ROOM 512

/* Sum of a range of the frame's bytes, as if it began at an even offset; they may move towards the front. */
struct range_sum {
	struct __sk_buff *skb;
	__u8 *work; /* WORK_ROOM bytes that nobody else uses */
	__u32 off;
	__u32 end;
	__u32 to; /* where they move */
	__u32 sum;
	bool move;
};

static long range_chunk(__u64 index, void *data)
{
	struct range_sum *r = data;
	__u32 n;
	__s64 sum;

	if (r->off >= r->end)
		return 1;
	n = r->end - r->off;
	if (n > WORK_ROOM)
		n = WORK_ROOM;
	if (!within(n, 1, WORK_ROOM))
		return 1;
	memset(r->work + ((n - 1) & ~3u & 511), 0, 4);
	if (bpf_skb_load_bytes(r->skb, r->off, r->work, n))
		return 1;
	if (r->move) {
		if (bpf_skb_store_bytes(r->skb, r->to, r->work, n, BPF_F_RECOMPUTE_CSUM))
			return 1;
		r->to += n;
	}
	n = (n + 3) & 0x3fc;
	if (n > WORK_ROOM)
		return 1;
	sum = bpf_csum_diff(NULL, 0, (__be32 *)r->work, n, r->sum);
	if (sum < 0)
		return 1;
	r->sum = sum;
	r->off += WORK_ROOM; /* a shorter one is the last */
	return 0;
}

/* Returns 0, or -1 if the range could not be read. */
static __always_inline int skb_range_sum(struct range_sum *r)
{
	bpf_loop(129, range_chunk, r, 0);
	return r->off < r->end ? -1 : 0;
}

/*
 * Whether nobody has verified the segment's TCP checksum yet and it is wrong.
 * What is not passed to the stack unchanged must be verified here.
 */
static __always_inline bool skb_corrupt(struct __sk_buff *skb, const struct packet *p, __u8 *work, const struct conn *c)
{
	__u32 summed = skb_ip_summed(skb);
	struct range_sum r = {
		.skb = skb,
		.work = work,
		.off = p->l4,
		.end = p->payload + p->seg.len,
	};

	if (summed == CHECKSUM_UNNECESSARY || summed == CHECKSUM_PARTIAL)
		return false;
	r.sum = c->pseudo_sum + bpf_htons(r.end - r.off);
	r.sum = (r.sum & 0xffff) + (r.sum >> 16);
	return skb_range_sum(&r) || csum_fold(r.sum);
}

/* The IP header follows the TCP length from `from` to `to`, network byte order. */
static __always_inline int skb_tcp_len(struct __sk_buff *skb, const struct packet *p, __be16 from, __be16 to)
{
	if (p->ipv6)
		return bpf_skb_store_bytes(skb, p->l3 + offsetof(struct ipv6hdr, payload_len), &to, 2,
					   BPF_F_RECOMPUTE_CSUM);
	from = bpf_htons(20 + bpf_ntohs(from));
	to = bpf_htons(20 + bpf_ntohs(to));
	if (bpf_l3_csum_replace(skb, p->l3 + offsetof(struct iphdr, check), from, to, 2))
		return -1;
	return bpf_skb_store_bytes(skb, p->l3 + offsetof(struct iphdr, tot_len), &to, 2, 0);
}

/*
 * Removes the front of the payload: what is still to be handled moves up to the
 * TCP header. Its options, if there are some, are in k->before. pseudo_sum is
 * the connection's. Returns 0 or -1.
 */
static __always_inline int skb_close_up(struct __sk_buff *skb, struct packet *p, const struct sack *k, __u8 *work,
					__u32 pseudo_sum)
{
	__u32 payload = p->l4 + packet_tcp_len(p), len = packet_tcp_len(p) + p->seg.len;
	bool partial = skb_ip_summed(skb) == CHECKSUM_PARTIAL;
	struct tcphdr tcp;
	struct range_sum r = {
		.skb = skb,
		.work = work,
		.off = p->payload,
		.end = p->payload + p->seg.len,
		.to = payload,
		.move = true,
	};

	if (skb_range_sum(&r) || bpf_skb_change_tail(skb, payload + p->seg.len, 0) ||
	    bpf_skb_load_bytes(skb, p->l4, &tcp, sizeof(tcp)) ||
	    skb_tcp_len(skb, p, bpf_htons(len + p->front), bpf_htons(len)))
		return -1;
	p->payload = payload;
	p->front = 0;
	tcp.seq = bpf_htonl(p->seg.seq);
	tcp.check = 0;
	if (payload != p->l4 + sizeof(tcp))
		r.sum = bpf_csum_diff(NULL, 0, (__be32 *)k->before, OPTIONS_MAX, r.sum);
	tcp_checksum(&tcp, partial, pseudo_sum + bpf_htons(len), r.sum);
	return bpf_skb_store_bytes(skb, p->l4, &tcp, sizeof(tcp), BPF_F_RECOMPUTE_CSUM);
}

/* Cuts what is still to be handled of the payload to its first `keep` bytes: tail, IP length, checksums. */
static __always_inline int skb_cut(struct __sk_buff *skb, struct packet *p, __u8 *work, __u32 keep)
{
	__u32 tcp_len = p->payload - p->l4;
	__u32 check = p->l4 + offsetof(struct tcphdr, check);
	__be16 from = bpf_htons(tcp_len + p->seg.len), to = bpf_htons(tcp_len + keep);
	struct range_sum r = {
		.skb = skb,
		.work = work,
		.off = p->payload + keep,
		.end = p->payload + p->seg.len,
	};

	if (skb_range_sum(&r))
		return -1;
	if ((tcp_len + keep) & 1)
		r.sum = r.sum >> 8 | r.sum << 24;
	if (bpf_l4_csum_replace(skb, check, 0, ~r.sum, 0) ||
	    bpf_l4_csum_replace(skb, check, from, to, BPF_F_PSEUDO_HDR | 2))
		return -1;
	if (skb_tcp_len(skb, p, from, to))
		return -1;
	bpf_csum_update(skb, r.sum); /* CHECKSUM_COMPLETE: what the tail loses, the TCP checksum has gained */
	if (bpf_skb_change_tail(skb, p->payload + keep, 0))
		return -1;
	return skb_drop_flags(skb, p, TH_FIN | TH_PSH);
}

#endif
