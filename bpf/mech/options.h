/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* options.h - TCP options of an skb: read into a struct sack, and written back. */
#ifndef EPROXY_MECH_OPTIONS_H
#define EPROXY_MECH_OPTIONS_H

#include "skb.h"

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
 * Reads the segment's TCP options into k. Returns 0, or -1 if that is
 * impossible: then there are no blocks in it.
 */
static __always_inline int skb_options(struct __sk_buff *skb, const struct packet *p, struct sack *k)
{
	__u32 len = packet_tcp_len(p) - sizeof(struct tcphdr);
	struct options_ctx ctx = { .k = k };

	memset(k, 0, sizeof(*k));
	if (!within(len, 4, OPTIONS_MAX) || bpf_skb_load_bytes(skb, p->l4 + sizeof(struct tcphdr), k->before, len))
		return -1;
	for (int i = 0; i < OPTIONS_ROOM; i += 4)
		*(__u32 *)(k->bytes + i) = *(const __u32 *)(k->before + i);
	k->len = len;
	bpf_loop(len, options_scan, &ctx, 0);
	sack_read(k);
	return 0;
}

/* Puts the options that k has by now into the segment, in the same length; checksum incrementally. Returns 0 or -1. */
static __always_inline int skb_options_store(struct __sk_buff *skb, const struct packet *p, struct sack *k)
{
	__u32 l4 = p->l4, len = k->len;
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

#endif
