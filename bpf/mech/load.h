/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* load.h - bytes of a packet, wherever the program sits; copies in whole words. */
#ifndef EPROXY_MECH_LOAD_H
#define EPROXY_MECH_LOAD_H

#include "packet.h"

static __always_inline int packet_load(void *ctx, bool xdp, __u32 off, void *to, __u32 len)
{
	if (xdp)
		return bpf_xdp_load_bytes(ctx, off, to, len);
	return bpf_skb_load_bytes(ctx, off, to, len);
}

/* Copies *len bytes, in whole lines of 64: both sides have room for `most`, a multiple of 64. */
static __always_inline void copy_lines(__u8 *dst, const __u8 *src, const __u32 *len, const __u32 most)
{
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < most; i += 64)
	{
		if (i >= afresh(*len))
			break;
		for (__u32 j = i; j < i + 64; j += 8) /* no memcpy: the native machine would not see it */
			*(__u64 *)(dst + j) = *(const __u64 *)(src + j);
	}
}

/*
 * Sets or clears a bit of a word that others change too; does not touch the
 * cache line where it is so already. A full barrier where it is not: without the
 * use of its result the instruction would be none.
 */
static __always_inline void word_set(__u64 *word, __u64 bit, bool on)
{
	__u64 old;

	if (!(*(volatile __u64 *)word & bit) == !on)
		return;
	old = on ? __sync_fetch_and_or(word, bit) : __sync_fetch_and_and(word, ~bit);
	opaque(old);
}

#endif
