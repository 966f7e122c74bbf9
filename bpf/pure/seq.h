/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* seq.h - comparison of TCP sequence numbers, modulo 2^32 (RFC 9293 section 3.4). */
#ifndef EPROXY_SEQ_H
#define EPROXY_SEQ_H

#include "common.h"

static __always_inline bool seq_lt(__u32 a, __u32 b)
{
	return (__s32)(a - b) < 0;
}

static __always_inline bool seq_le(__u32 a, __u32 b)
{
	return (__s32)(a - b) <= 0;
}

static __always_inline bool seq_gt(__u32 a, __u32 b)
{
	return (__s32)(a - b) > 0;
}

static __always_inline bool seq_ge(__u32 a, __u32 b)
{
	return (__s32)(a - b) >= 0;
}

#endif
