/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* verdict.h - the one place that counts. */
#ifndef EPROXY_VERDICT_H
#define EPROXY_VERDICT_H

#include "maps.h"

static __always_inline void count(enum hook hook, enum reason reason)
{
	__u32 key = hook * 256 + reason;
	__u64 *n = bpf_map_lookup_elem(&reasons, &key);

	if (n)
		(*n)++;
}

#endif
