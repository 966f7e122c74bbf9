/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* count.h - responses by route and by pod. */
#ifndef EPROXY_UPSTREAM_COUNT_H
#define EPROXY_UPSTREAM_COUNT_H

#include "../mech/entries.h"

/* One response by route and by pod; pod is the index of the pod's counters, status the HTTP status less 200. */
static __always_inline void count_responded(const struct message *m, __u32 pod, __u32 status, __u64 now)
{
	__u32 bucket = 0;
	struct route_stats *st = route_stats_entry(m->counter);
	struct pod_stats *ps = pod_stats_entry(pod);
	__u64 ns = now - m->taken_ns + m->waited_us * 1000ull, below;

	opaque(status);
	if (ps && status < STATUS_CODES)
		ps->answered[status]++;
	if (!st)
		return;
	st->answered[m->qos & 1]++;
	st->nanoseconds += ns;
	/* floor(log2(ns)) + 1: the bits that are set once everything below the highest is */
	below = ns;
	below |= below >> 1;
	below |= below >> 2;
	below |= below >> 4;
	below |= below >> 8;
	below |= below >> 16;
	below |= below >> 32;
	bucket = popcount64(below);
	if (bucket >= HIST_BUCKETS)
		bucket = HIST_BUCKETS - 1;
	st->hist[bucket]++;
}

#endif
