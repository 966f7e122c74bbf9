/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* scratch.h - per-CPU work space, one per hook so that nested hooks do not meet. */
#ifndef EPROXY_WORK_SCRATCH_H
#define EPROXY_WORK_SCRATCH_H

#include "../mech/entries.h"
#include "../pure/http.h"
#include "reply.h"
#include "source.h"
#include "topic.h"
#include "upstream.h"

/* What a clone that passes TC egress becomes. */
enum shape {
	SHAPE_NONE = 0,
	SHAPE_GROUP = 1,  /* the requests of group */
	SHAPE_BARE = 2,	  /* the segment without payload in frame */
	SHAPE_NOTICE = 3, /* what notice says */
	SHAPE_PIECE = 4,  /* the part of a request in piece */
	SHAPE_REPAIR = 5, /* PUBACKs that got lost: frame, with what is in pubacks */
	SHAPE_CUT = 6,	  /* what tx says of the packet's bytes, from its front on */
};

/* A message that somebody looks at (trace). */
struct shown {
	struct trace_key key;
	__u32 pos; /* in its topic */
	struct trace_event event;
};

/*
 * One run's work space. What every message needs comes first, in few cache
 * lines. Arrays that are read in words have room for one word more.
 */
struct scratch {
	struct packet packet;
	struct publish publish; /* the message at its front */
	struct rx_verdict rx;
	__u32 conn;  /* conn index of the segment's connection */
	__u32 shape; /* enum shape, while a clone is on its way */
	struct admission admit;
	struct origin origin;
	struct claim claim;
	struct routed routed;
	struct draft draft;
	struct arrival arrival;
	struct taking taking;
	struct copying copying;
	struct answer answer;
	struct leaving leaving;
	__u64 now_ns;
	struct unparking unpark;
	struct frame frame;
	struct http http;
	struct responses responses;
	struct notice notice;
	struct group group;
	struct piece piece;
	__u8 look[MQTT_LOOK + 16] __attribute__((aligned(8))); /* beginning of the segment's payload */
	__u8 work[HTTP_LOOK + 16] __attribute__((aligned(8))); /* beginning of a pod's response; for checksums */
	struct outcomes outcomes;
	struct framing framing;
	struct framing began; /* the device's, when following it began */
	struct tx_verdict tx;
	struct sack sack;
	struct pubacks pubacks;
	struct topic topic;
	struct message_properties properties;
	struct shown trace;
};

/* The row of scratches behind those of the hooks: of what sends parked messages, which happens within a hook. */
#define SCRATCH_UNPARK HOOK_COUNT
#define SCRATCH_COUNT  (HOOK_COUNT + 1)

/* Work space by hook. Writer and reader: the hook itself. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SCRATCH_COUNT);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

static __always_inline struct scratch *scratch_of(__u32 hook)
{
	__u32 key = hook;

	return bpf_map_lookup_elem(&scratches, &key);
}

#endif
