/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* syn.h - TCP options that must not be negotiated. */
#ifndef EPROXY_MECH_SYN_H
#define EPROXY_MECH_SYN_H

#include "skb.h"

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
