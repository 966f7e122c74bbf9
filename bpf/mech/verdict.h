/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* verdict.h - the one place that counts: every hook leaves by counted(), or has counted before. */
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

/* How a hook ends: counts why, and returns its verdict. */
static __always_inline int counted(enum hook hook, enum reason reason, int verdict)
{
	count(hook, reason);
	return verdict;
}

#endif
