/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* abi_route.h - from a topic to its function, and who may publish to it. */
#ifndef EPROXY_ABI_ABI_ROUTE_H
#define EPROXY_ABI_ABI_ROUTE_H

#include "abi_limits.h"

/*
 * pods and pod_count change while programs read them: whatever they see, each of
 * pods[0] to pods[pod_count - 1] is or was one of the function's. The first ones, near of them, get
 * messages as long as they have idle slots; 0: all are alike.
 */
struct function {
	__u32 pod_count;
	__u32 near;
	__u32 prefix_len;
	__u32 from_publisher; /* 1: the longer sender of a device goes along */
	__u32 queue;	      /* of its messages that wait for a slot: the same after a reload */
	__u32 tracing; /* its requests get a traceparent, sampled if a random number is no larger; 0: they get none */
	__u32 content_at;  /* in prefix: the Content-Type of messages that bring none, */
	__u32 content_len; /* and its bytes */
	__u32 pods[PODS_PER_FUNCTION];
	__u8 prefix[PREFIX_MAX]; /* request up to and including "ce-source: <source>/" */
	__u8 slack[8];		 /* what is read in words may end here */
};
_Static_assert(sizeof(struct function) % 8 == 0,
	       "userspace maps an array of them, whose elements the kernel rounds up");

enum route_flag {
	ROUTE_FALLBACK = 1, /* served by the fallback */
	ROUTE_COPY = 2,	    /* subscribers get a copy of what is taken */
};

struct route {
	__u32 function;
	__u32 flags;   /* enum route_flag */
	__u32 counter; /* of its filter and function: the same after a reload */
	__u32 line;    /* its part of the names of its clients' lines; 0: it is not ordered */
};

/* Routing automaton: one edge lookup per topic level. */
struct node {
	__u32 plus;  /* node for a level without an edge of its own; NO_INDEX: none */
	__s32 exact; /* route if the name ends here; -1: none */
	__s32 hash;  /* route if the name goes on and nothing matches; -1: none */
};

struct edge_key {
	__u32 node;
	__u32 len;
	__u8 level[LEVEL_MAX];
};

/* Both roots are switched with one 64-bit store. */
struct globals {
	__u32 root;	   /* automaton for ordinary names */
	__u32 root_dollar; /* automaton for names that begin with '$' */
	__u32 epoch;	   /* changes with every reload; never 0 */
	__u32 draining;	   /* nothing more is taken */
	__u32 slots_end;   /* one above the highest conn index of a slot so far */
	__u32 conns_end;   /* one above the highest conn index so far */
	__u32 xdp_idle;	   /* no pod in service receives XDP redirects: XDP leaves everything to TC */
	__u32 tracing;	   /* TRACE_LOOK, TRACE_SPAN: for whom messages are looked at (trace.h) */
};

/* Key of listeners: where the MQTT server listens; of asleep: where a pod does. */
struct listener {
	__be32 address[4]; /* IPv4 as ::ffff:a.b.c.d; all zero: every address of this host, of both families */
	__be16 port;
	__u16 pad;
};

/* Key of grants: this client may publish to this topic. */
struct grant_key {
	__u32 conn;
	__u32 gen;
	__u32 rights; /* of the device, that the grant was made under */
	__u32 len;
	__u8 topic[TOPIC_MAX];
};

/* What makes a directory of pins eproxy's own, and tells versions apart. */
struct pin_mark {
	__u32 magic;   /* MARK_MAGIC */
	__u32 version; /* ABI_VERSION */
};

#endif
