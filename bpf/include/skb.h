/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* skb.h - what the TC hooks do to an skb: translate it, or turn it into another packet. */
#ifndef EPROXY_SKB_H
#define EPROXY_SKB_H

#include "take.h"

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

/* A loop's context must lie on the stack. */
struct options_ctx {
	struct sack *k;
};

static long options_scan(__u64 index, void *data)
{
	struct options_ctx *ctx = data;

	return sack_scan(ctx->k, index);
}

static long options_strip(__u64 index, void *data)
{
	struct options_ctx *ctx = data;

	return sack_strip(ctx->k, index);
}

static long options_write(__u64 index, void *data)
{
	struct options_ctx *ctx = data;

	return sack_write(ctx->k, index);
}

/*
 * Reads the segment's TCP options into s->sack. Returns 0, or -1 if that is
 * impossible: then there are no blocks in s->sack.
 */
static __always_inline int skb_options(struct __sk_buff *skb, struct scratch *s)
{
	__u32 len = packet_tcp_len(&s->packet) - sizeof(struct tcphdr);
	struct sack *k = &s->sack;
	struct options_ctx ctx = { .k = k };

	memset(k, 0, sizeof(*k));
	if (!within(len, 4, OPTIONS_MAX) ||
	    bpf_skb_load_bytes(skb, s->packet.l4 + sizeof(struct tcphdr), k->before, len))
		return -1;
	for (int i = 0; i < OPTIONS_ROOM; i += 4)
		*(__u32 *)(k->bytes + i) = *(const __u32 *)(k->before + i);
	k->len = len;
	bpf_loop(len, options_scan, &ctx, 0);
	sack_read(k);
	return 0;
}

/* Puts the options that s->sack has by now into the segment, in the same length; checksum incrementally. Returns 0 or -1. */
static __always_inline int skb_options_store(struct __sk_buff *skb, struct scratch *s)
{
	__u32 l4 = s->packet.l4, len = s->sack.len;
	struct sack *k = &s->sack;
	struct options_ctx ctx = { .k = k };
	__s64 diff;

	bpf_loop(2 + 8 * k->came, options_write, &ctx, 0);
	diff = bpf_csum_diff((__be32 *)k->before, OPTIONS_MAX, (__be32 *)k->bytes, OPTIONS_MAX, 0);
	if (diff < 0 || !within(len, 4, OPTIONS_MAX) ||
	    bpf_l4_csum_replace(skb, l4 + offsetof(struct tcphdr, check), 0, diff, 0))
		return -1;
	for (int i = 0; i < OPTIONS_ROOM; i += 4)
		*(__u32 *)(k->before + i) = *(const __u32 *)(k->bytes + i);
	return bpf_skb_store_bytes(skb, l4 + sizeof(struct tcphdr), k->bytes, len, 0);
}

/* Headers from the frame, with its VLAN tag instead of the skb's; the payload is in place. */
static __always_inline int skb_send_frame(struct __sk_buff *skb, struct frame *f, bool partial, __u32 payload_sum)
{
	if (skb->vlan_present && bpf_skb_vlan_pop(skb))
		return -1;
	frame_checksum(f, partial, payload_sum);
	if (f->ipv6) {
		if (bpf_skb_store_bytes(skb, 0, &f->eth, FRAME_V6, BPF_F_RECOMPUTE_CSUM))
			return -1;
	} else {
		if (bpf_skb_store_bytes(skb, 0, &f->eth, FRAME_V4, BPF_F_RECOMPUTE_CSUM))
			return -1;
	}
	if (f->vlan_tci && bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), f->vlan_tci))
		return -1;
	skb->mark |= knob_mark;
	return 0;
}

/* Sum of a range of the frame's bytes, as if it began at an even offset; they may move towards the front. */
struct range_sum {
	struct __sk_buff *skb;
	struct scratch *s;
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
	if (n > 512)
		n = 512;
	if (!within(n, 1, 512))
		return 1;
	memset(r->s->response + ((n - 1) & ~3u & 511), 0, 4);
	if (bpf_skb_load_bytes(r->skb, r->off, r->s->response, n))
		return 1;
	if (r->move) {
		if (bpf_skb_store_bytes(r->skb, r->to, r->s->response, n, BPF_F_RECOMPUTE_CSUM))
			return 1;
		r->to += n;
	}
	n = (n + 3) & 0x3fc;
	if (n > 512)
		return 1;
	sum = bpf_csum_diff(NULL, 0, (__be32 *)r->s->response, n, r->sum);
	if (sum < 0)
		return 1;
	r->sum = sum;
	r->off += 512; /* a shorter one is the last */
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
static __always_inline bool skb_corrupt(struct __sk_buff *skb, struct scratch *s, const struct conn *c)
{
	struct packet *p = &s->packet;
	__u32 summed = skb_ip_summed(skb);
	struct range_sum r = {
		.skb = skb,
		.s = s,
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
 * TCP header. Its options, if there are some, are in s->sack.before. pseudo_sum is
 * the connection's. Returns 0 or -1.
 */
static __always_inline int skb_close_up(struct __sk_buff *skb, struct scratch *s, __u32 pseudo_sum)
{
	struct packet *p = &s->packet;
	__u32 payload = p->l4 + packet_tcp_len(p), len = packet_tcp_len(p) + p->seg.len;
	bool partial = skb_ip_summed(skb) == CHECKSUM_PARTIAL;
	struct tcphdr tcp;
	struct range_sum r = {
		.skb = skb,
		.s = s,
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
		r.sum = bpf_csum_diff(NULL, 0, (__be32 *)s->sack.before, OPTIONS_MAX, r.sum);
	tcp_checksum(&tcp, partial, pseudo_sum + bpf_htons(len), r.sum);
	return bpf_skb_store_bytes(skb, p->l4, &tcp, sizeof(tcp), BPF_F_RECOMPUTE_CSUM);
}

/* Cuts what is still to be handled of the payload to its first `keep` bytes: tail, IP length, checksums. */
static __always_inline int skb_cut(struct __sk_buff *skb, struct scratch *s, __u32 keep)
{
	struct packet *p = &s->packet;
	__u32 tcp_len = p->payload - p->l4;
	__u32 check = p->l4 + offsetof(struct tcphdr, check);
	__be16 from = bpf_htons(tcp_len + p->seg.len), to = bpf_htons(tcp_len + keep);
	struct range_sum r = {
		.skb = skb,
		.s = s,
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

/* Following a segment's MQTT framing; its state is in s->framing. */
struct framing_ctx {
	struct __sk_buff *skb;
	struct scratch *s;
	__u32 off;
	__u32 end;
	bool remainder; /* no further than the current packet's end */
	bool client;	/* a client's stream: ends where its session does */
};

static long framing_step(__u64 index, void *data)
{
	struct framing_ctx *w = data;
	struct framing *framing = &w->s->framing;
	__u32 n;
	__u8 b;

	if (w->off >= w->end || framing->bad || (w->remainder && framing_at_boundary(framing)))
		return 1;
	if (framing->left) {
		n = w->end - w->off;
		if (n > framing->left)
			n = framing->left;
		framing->left -= n;
		w->off += n;
		return 0;
	}
	if (bpf_skb_load_bytes(w->skb, w->off, &b, 1)) {
		framing->bad = 1;
		return 1;
	}
	if (w->client && !framing->head && !framing_goes_on(b)) {
		framing->bad = 1; /* what follows is the server's to judge */
		return 1;
	}
	w->off++;
	framing_head_byte(framing, b);
	return 0;
}

/* Follows the framing of the segment's payload, from s->framing and its byte `front` on; client: of what a client sends. */
static __always_inline void skb_framing(struct __sk_buff *skb, struct scratch *s, __u32 front, bool client)
{
	struct framing_ctx w = {
		.skb = skb,
		.s = s,
		.off = s->packet.payload + front,
		.end = s->packet.payload + s->packet.seg.len,
		.client = client,
	};

	bpf_loop(2 * (s->packet.seg.len - front) + 1, framing_step, &w, 0);
}

/*
 * Bytes at the front of the payload that belong to a packet begun earlier, if
 * another packet begins behind them; else 0. s->framing is where the segment
 * begins, and then where that packet does.
 */
static __always_inline __u32 skb_remainder(struct __sk_buff *skb, struct scratch *s)
{
	struct framing_ctx w = {
		.skb = skb,
		.s = s,
		.off = s->packet.payload,
		.end = s->packet.payload + s->packet.seg.len,
		.remainder = true,
	};

	bpf_loop(8, framing_step, &w, 0); /* a fixed header has five bytes at most */
	return framing_at_boundary(&s->framing) && w.off < w.end ? w.off - s->packet.payload : 0;
}

/*
 * Turns the skb into the segment of the frame, with its payload from bytes: none
 * or some PUBACKs. Returns 0 or -1.
 */
static __always_inline int skb_make_small(struct __sk_buff *skb, struct frame *f, __u8 bytes[PUBACKS_MAX])
{
	bool partial = skb_ip_summed(skb) == CHECKSUM_PARTIAL;
	__u32 n = f->payload_len, sum = 0;

	if (bpf_skb_change_tail(skb, f->len + n, 0))
		return -1;
	if (n) {
		n &= ~3u;
		if (!within(n, 4, PUBACKS_MAX))
			return -1;
		if (!partial)
			sum = bpf_csum_diff(NULL, 0, (__be32 *)bytes, n, 0);
		if (bpf_skb_store_bytes(skb, f->len, bytes, n, BPF_F_RECOMPUTE_CSUM))
			return -1;
	}
	return skb_send_frame(skb, f, partial, sum);
}

/* The same, and sends it out of the frame's interface. Returns the TC verdict, or -1. */
static __always_inline int skb_send_small(struct __sk_buff *skb, struct frame *f, __u8 bytes[PUBACKS_MAX])
{
	if (skb_make_small(skb, f, bytes))
		return -1;
	return bpf_redirect(f->ifindex, 0);
}

/* Turns the skb into this request. Returns 0 or -1; the caller sends it. */
static __always_inline int skb_make_request(struct __sk_buff *skb, struct frame *f, struct request *r, __u32 len)
{
	bool partial = skb_ip_summed(skb) == CHECKSUM_PARTIAL;
	__u32 sum = 0;

	if (!partial)
		sum = buffer_sum(r->buf, len, 0);
	if (!within(len, 1, REQUEST_MAX - 8))
		return -1;
	if (bpf_skb_change_tail(skb, f->len + len, 0))
		return -1;
	if (bpf_skb_store_bytes(skb, f->len, r->buf, len, BPF_F_RECOMPUTE_CSUM))
		return -1;
	return skb_send_frame(skb, f, partial, sum);
}

/* To the pod: straight into its namespace where that works, else through its interface's egress. */
static __always_inline int skb_to_pod(__u32 index, const struct frame *f)
{
	struct slot *slot = slot_entry(index);
	__u32 key = slot ? slot->pod : NO_INDEX;
	struct pod *pod = bpf_map_lookup_elem(&pods, &key);

	if (pod && pod->peer_ok)
		return bpf_redirect_peer(f->ifindex, 0);
	return bpf_redirect(f->ifindex, 0);
}

/* Sends a clone of the skb that TC egress of the interface turns into what shape says; `hook` counts a failure. */
static __always_inline void skb_send_clone(struct __sk_buff *skb, struct scratch *s, enum hook hook, enum shape shape,
					   const struct frame *f)
{
	s->shape = shape;
	skb->mark |= knob_mark;
	if (bpf_clone_redirect(skb, f->ifindex, 0))
		count(hook, REASON_REDIRECT_ERROR);
	skb->mark &= ~knob_mark;
	s->shape = SHAPE_NONE;
}

/*
 * TCP options that grafting cannot honour, replaced by NOP in a SYN, so that they
 * are never negotiated.
 */
static __always_inline bool option_unwanted(__u8 kind)
{
	switch (kind) {
	case 8:	  /* timestamps: injected segments have none */
	case 30:  /* MPTCP */
	case 34:  /* TCP Fast Open */
	case 172: /* AccECN */
	case 174:
		return true;
	}
	return false;
}

/* One SYN's options while they are looked through. */
struct options {
	__u8 bytes[64]; /* at most 40, masked accesses */
	__u32 len;
	__u32 left; /* bytes of the current option still to come */
	__u32 unwanted;
	__u32 changed;
};

/* One byte of the options. */
static long option_byte(__u64 index, void *data)
{
	struct options *o = data;
	__u32 at = index, n;
	__u8 kind;

	if (at >= 40)
		return 1;
	if (o->left) {
		if (o->unwanted)
			o->bytes[at & 63] = 1;
		o->left--;
		return 0;
	}
	kind = o->bytes[at & 63];
	if (kind == 0 || at + 1 >= 40)
		return 1;
	if (kind == 1)
		return 0;
	n = o->bytes[(at + 1) & 63];
	if (n < 2 || at + n > o->len)
		return 1;
	o->left = n - 1;
	o->unwanted = option_unwanted(kind);
	if (o->unwanted) {
		o->bytes[at & 63] = 1;
		o->changed = 1;
	}
	return 0;
}

/* Rewrites a SYN's options, and clears ECE, CWR and AE. */
static __always_inline int skb_strip_syn(struct __sk_buff *skb, const struct packet *p)
{
	__u32 check = p->l4 + offsetof(struct tcphdr, check);
	__u32 at = p->l4 + sizeof(struct tcphdr);
	struct options before = {}, after;
	__be16 flags, clean;
	__s64 diff;
	__u32 len;

	if (bpf_skb_load_bytes(skb, p->l4 + 12, &flags, 2))
		return -1;
	clean = flags & bpf_htons(0xf03f);
	if (clean != flags &&
	    (bpf_l4_csum_replace(skb, check, flags, clean, 2) || bpf_skb_store_bytes(skb, p->l4 + 12, &clean, 2, 0)))
		return -1;
	len = p->payload - at;
	if (!within(len, 1, 40))
		return 0;
	before.len = len;
	if (bpf_skb_load_bytes(skb, at, before.bytes, len))
		return -1;
	after = before;
	bpf_loop(len, option_byte, &after, 0);
	if (!after.changed)
		return 0;
	diff = bpf_csum_diff((__be32 *)before.bytes, 40, (__be32 *)after.bytes, 40, 0);
	if (diff < 0 || bpf_l4_csum_replace(skb, check, 0, diff, 0) ||
	    bpf_skb_store_bytes(skb, at, after.bytes, len, 0))
		return -1;
	return 0;
}

#endif
