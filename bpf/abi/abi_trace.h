/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* abi_trace.h - which messages somebody looks at, and what became of them. */
#ifndef EPROXY_ABI_ABI_TRACE_H
#define EPROXY_ABI_ABI_TRACE_H

#include "abi_limits.h"

#define TRACE_ANY 0xff /* struct tracing, reason: any */

/* For whom messages are looked at: bits of globals.tracing, and of struct trace_event, who. */
#define TRACE_LOOK 1 /* who has asked for them by struct tracing */
#define TRACE_SPAN 2 /* who gets the spans of those that are sampled */

/* Which messages somebody looks at (trace.h). Written by userspace while globals.tracing is without TRACE_LOOK, but for lost. */
struct tracing {
	__u64 lost;	  /* messages that were to be shown, and for which there was no room */
	__u32 sample;	  /* a message is looked at if a random number is no larger than this */
	__u32 queue;	  /* of the function that gets it; NO_INDEX: any */
	__u32 client_len; /* bytes of client; 0: any */
	__u32 topic_len;  /* bytes of topic; 0: any */
	__u16 status;	  /* of the response; 0: any, or none */
	__u8 reason;	  /* enum reason: why it was taken or not; TRACE_ANY */
	__u8 pad[5];
	__u8 topic[TOPIC_MAX];	 /* a topic filter */
	__u8 client[SENDER_MAX]; /* what the sender (struct device) of a client begins with */
};

/* Which message of which connection. */
struct trace_key {
	__u32 device; /* conn index */
	__u32 device_gen;
	__u32 device_seq; /* wire position of the PUBLISH */
};

/* What became of a message: a record of the ring traces. */
struct trace_event {
	__u64 ended_ns;	 /* CLOCK_MONOTONIC, when it was answered, or left to the local socket */
	__u64 took_ns;	 /* from taking it to the response */
	__u64 waited_ns; /* of that in the queue */
	__u32 device;	 /* conn index */
	__u32 device_gen;
	__u32 counter; /* of its route and function, if it was taken */
	__u32 pod;     /* index of the pod's counters, if it was answered */
	__u16 status;  /* of the response; 0: the local socket got it */
	__u8 hook;     /* enum hook that took it, or left it */
	__u8 reason;   /* enum reason */
	__u8 qos;
	__u8 topic_len; /* bytes of topic; 0: not known */
	__u8 topic_cut; /* 1: it is longer */
	__u8 who;	/* TRACE_LOOK, TRACE_SPAN: for whom it is */
	__u32 trace[4]; /* of its traceparent; for TRACE_SPAN */
	__u32 span[2];
	__u8 topic[TOPIC_MAX];
};

#endif
