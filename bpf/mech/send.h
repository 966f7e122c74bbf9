/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* send.h - turns an skb into another segment, and sends it. */
#ifndef EPROXY_MECH_SEND_H
#define EPROXY_MECH_SEND_H

#include "frame.h"
#include "skb.h"
#include "verdict.h"

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

/* Sends a clone of the skb that TC egress of the interface turns into what *shape says meanwhile; `hook` counts a failure. */
static __always_inline void skb_send_clone(struct __sk_buff *skb, __u32 *shape, __u32 into, enum hook hook,
					   const struct frame *f)
{
	*shape = into;
	skb->mark |= knob_mark;
	if (bpf_clone_redirect(skb, f->ifindex, 0))
		count(hook, REASON_REDIRECT_ERROR);
	skb->mark &= ~knob_mark;
	*shape = 0;
}

#endif
