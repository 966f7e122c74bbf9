/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* verdict.h - the one place that counts, and the one way out of a hook. */
#ifndef EPROXY_MECH_VERDICT_H
#define EPROXY_MECH_VERDICT_H

#include "maps.h"

static __always_inline void count(enum hook hook, enum reason reason)
{
	__u32 key = hook * 256 + reason;
	__u64 *n = bpf_map_lookup_elem(&reasons, &key);

	if (!n)
		return;
	/* control programs run in tasks, and a timer's tick may come in between; no packet hook is interrupted by itself */
	if (hook == HOOK_CONTROL)
		__sync_fetch_and_add(n, 1);
	else
		(*n)++;
}

/*
 * How a packet is to leave its hook: a verdict (TC_*, XDP_*, below 256), and why. Functions return this, and the hook counts
 * it, once, in leave().
 */
static __always_inline int exit_for(enum reason reason, int verdict)
{
	return (int)(reason + 1) << 8 | verdict;
}

/* The same for a packet whose reasons have been counted: those of its messages, or what it became. */
static __always_inline int exit_counted(int verdict)
{
	return verdict;
}

/* How a hook ends: counts why, and returns its verdict. What no reason was given for is of no connection that the hook knows. */
static __always_inline int leave(enum hook hook, int exit)
{
	__u32 why = (__u32)exit >> 8;

	if (why)
		count(hook, why - 1);
	return exit & 0xff;
}

#endif
