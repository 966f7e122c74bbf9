/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* abi_series.h - counters, what they count, and names for people. */
#ifndef EPROXY_ABI_ABI_SERIES_H
#define EPROXY_ABI_ABI_SERIES_H

#include "abi_limits.h"

struct route_stats {
	__u64 taken[2]; /* by QoS */
	__u64 answered[2];
	__u64 nanoseconds;	  /* sum over answered */
	__u64 hist[HIST_BUCKETS]; /* bucket n: latency below 2^n ns */
};

struct pod_stats {
	__u64 answered[STATUS_CODES]; /* by status, less 200 */
};

/* What the counters of one index count: labels in userspace. */
struct route_series {
	__u32 filter_len;
	__u32 function_len;
	__u8 filter[1024];
	__u8 function[112];
};

struct pod_series {
	__be32 address[4]; /* IPv4 as ::ffff:a.b.c.d */
	__be16 port;
	__u16 function_len;
	__u8 function[112];
};

/* Names for people, so that the maps can be read without the loader. */
struct route_info {
	__u32 function;
	__u32 flags;
	__u32 len;
	__u8 filter[1020];
};

struct function_info {
	__u32 name_len;
	__u32 url_len;
	__u32 concurrency;
	__u32 timeout_ms;
	__u8 name[112];
	__u8 url[384];
};

#endif
