/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* topic.h - where a message goes (route), and what its request is made of (request). */
#ifndef EPROXY_WORK_TOPIC_H
#define EPROXY_WORK_TOPIC_H

#include "../pure/mqtt.h"
#include "../pure/properties.h"

/* Bytes that the lines of PROPERTIES_MAX bytes of properties can have, and more; a power of two. */
#define LINES_MAX 512

/* Where a message goes, and its topic as the request has it. */
struct routed {
	__u32 counter; /* of the route and its function */
	__u32 function;
	__u32 plain;	   /* ce-subject is the topic */
	__u32 subject_len; /* bytes of ce-subject */
	__u64 line;	   /* that the message stands in; 0: its route is not ordered */
	__u32 copy;	   /* not 0: subscribers get a copy */
	__u32 pad;
};

/* A topic that is not in the cache, while it is looked up. */
struct topic {
	__s32 route;
	__u32 bad;  /* enum reason: what is wrong with it */
	__u32 node; /* automaton's state */
	__u32 pos;  /* 0: the route is known */
	struct edge_key key;
	struct grant_key grant;
	struct utf8 utf8;
	__u8 subject[SUBJECT_MAX + 16]
		__attribute__((aligned(8))); /* topic as in ce-subject, where that differs from it */
};

/* A message's MQTT 5 properties, and the lines of its request that say what they do. */
struct message_properties {
	struct properties read;
	__u32 len; /* bytes of the text that is being written */
	__u32 end; /* bytes of lines so far */
	__u8 raw[PROPERTIES_MAX + 8] __attribute__((aligned(8)));
	__u8 lines[LINES_MAX + 16] __attribute__((aligned(8)));
};

/* Lengths of a request, bytes. */
struct draft {
	__u32 len;
	__u32 head_len;
	__u32 sender_len; /* of the head, what says who sends it */
	__u32 sampled;	  /* its traceparent says so */
	__u32 trace[4];	  /* of that */
	__u32 span[2];
	__u32 lines_len; /* of the lines of its properties, which stand behind that */
	__u32 own_type;	 /* 1: among these is a Content-Type, in place of the function's */
};

#endif
