/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* scratch.h - per-CPU work space, one per hook so that nested hooks do not meet. */
#ifndef EPROXY_WORK_SCRATCH_H
#define EPROXY_WORK_SCRATCH_H

#include "../mech/frame.h"
#include "../mech/entries.h"
#include "../pure/http.h"
#include "../pure/mqtt.h"

/* What a pod's segment means for a message. */
enum done_kind {
	DONE_RESPONSE = 1, /* PUBACK, or an ACK for QoS 0 */
	DONE_ACKED = 2,	   /* the request has arrived: ACK to the device */
	DONE_MARKED = 3,   /* the same, notified with the next PUBACK or by the sweeper */
};

/* Requests that leave in one segment; a power of two. */
#define GROUP_MAX 16

/* Queues in which messages of one segment may wait; the rest of a segment with more is userspace's. */
#define SEGMENT_QUEUES 8

/* Requests of one slot that leave in one segment, as they were taken from one segment of a device. */
struct group {
	__u32 slot;
	__u32 slot_gen;
	__u32 first;	       /* number of the oldest request */
	__u32 count;	       /* of requests; 0: empty */
	__u32 seq;	       /* wire position of the oldest one */
	__u32 len;	       /* bytes of all */
	__u32 mss;	       /* bytes of one segment to the pod */
	__u16 lens[GROUP_MAX]; /* bytes of each */
	struct frame frame;
};

/* What a device is about to be notified of in one segment: an acknowledgement, with or without PUBACKs. */
struct notice {
	__u32 device; /* conn index; NO_INDEX: nothing */
	__u32 device_gen;
	__u32 seq;  /* wire position of the first PUBACK, or of the acknowledgement */
	__u32 len;  /* bytes of PUBACKs */
	__u32 dups; /* duplicate acknowledgements that follow */
	__u8 bytes[PUBACKS_MAX];
	struct frame frame;
};

/* Bytes of a request that leave in one segment of their own, where the whole does not fit any more. */
struct piece {
	__u32 slot;
	__u32 slot_gen;
	__u32 number; /* of the request */
	__u32 end;    /* of the requests that are sent again: one above the youngest */
	__u32 off;    /* of the piece in its request; a multiple of PIECE_UNIT */
	struct frame frame;
};

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

/* A walk over a function's pods. */
struct unpark_walk {
	__u32 function;
	__u32 queue;
	__u32 from; /* any number */
	__u32 hook;
	__u32 qos;
	__u32 family;
	__u32 pod;  /* found, with */
	__u32 slot; /* or NO_INDEX */
};

/*
 * One run's work space. What every message needs comes first, in few cache
 * lines. Arrays that are read in words have room for one word more.
 */
struct scratch {
	struct packet packet;
	struct publish publish;
	struct rx_verdict rx;
	__u32 bad;	  /* enum reason of a failed take or route look-up */
	__u32 lags;	  /* the local socket has not acknowledged all that was passed */
	__u32 again;	  /* it begins below the next byte, and the peer may hear of that */
	__u32 known;	  /* the whole segment lies below the next byte */
	__u32 burst_sent; /* clones of the segment that left */
	__u32 burst_last; /* its last message is taken: the skb itself becomes the request */
	__u32 kept; /* bytes of the next message that came in the segment before: they are in the connection's struct kept */
	__u32 payload_len; /* of that message's payload */
	__u32 shape;	   /* enum shape, while a clone is on its way */
	__u32 hook;	   /* of a segment that leaves in pieces: enum hook, conn index, */
	__u32 conn;
	__u32 framed; /* and what conn_framed said */
	__u32 device;
	__u32 device_gen;
	__u32 device_seq;
	__s32 route;
	__u32 counter; /* of the route and its function */
	__u32 function;
	__u32 queue; /* of the pod's function */
	__u32 vain;  /* a slot was claimed for nothing: who parked a message meanwhile saw it taken */
	__u32 far;   /* the slot's pod is far away */
	__u32 early; /* messages of the segment that are done though no pod has acknowledged them */
	__u32 queue_count;
	__u32 queues[SEGMENT_QUEUES]; /* where those of them wait that found no slot */
	__u32 shut_pod;		      /* SCRATCH_UNPARK: of this pod's slots */
	__u64 shut;		      /* these bits are of connections that took no request */
	struct unpark_walk walk;
	__u32 pod;    /* of a slot that has received something */
	__u32 rights; /* of the device, when the take began */
	__u32 cache_version;
	__u32 slot;
	__u32 pod_counter;
	__u32 slot_gen;
	__u32 slot_seq; /* the request's wire position */
	__u32 slot_mss;
	__u32 number; /* of the request on the slot */
	__u32 request_len;
	__u32 done_count;
	__u32 action; /* what is to be done with a segment: enum rx_action; with a pod's: enum pod_duty, */
	__u32 duties;
	__u32 passed; /* and enum reason if it passes */
	__u32 blocks; /* a pod's segment has SACK blocks: they are in sack */
	__u32 lost;   /* it shows that requests got lost */
	__u32 due;    /* where responses to the requests that it acknowledges may begin */
	__u32 proofs; /* its responses show that the pod answers several requests in order */
	__u32 pad0;
	__u64 now_ns;
	struct frame frame;
	struct http http;
	struct responses responses;
	struct notice notice;
	struct group group;
	struct piece piece;
	__u8 look[MQTT_LOOK + 16];     /* beginning of the segment's payload */
	__u8 response[HTTP_LOOK + 16]; /* beginning of a pod's response */
	__u8 statuses[PIPELINE_MAX];   /* of the completed responses, less 200 */
	/* messages that a pod's segment responds to or acknowledges */
	__u32 done_kind[PIPELINE_MAX];	/* enum done_kind */
	__u8 done_status[PIPELINE_MAX]; /* less 200, of those that are answered */
	struct message done[PIPELINE_MAX];
	struct framing framing;
	struct framing began; /* the device's, when following it began */
	struct tx_verdict tx;
	struct sack sack;
	struct pubacks pubacks;
	/* a topic whose head is not in the cache */
	struct edge_key key;
	struct grant_key grant;
	struct utf8 utf8;
	__u8 subject[SUBJECT_MAX + 16]; /* topic as in ce-subject, where that differs from it */
	__u32 subject_len;		/* bytes of ce-subject */
	__u32 plain;			/* it is the topic */
	__u32 head_len;			/* bytes of the request's head */
	__u32 sender_len;		/* of them, of who sends it */
	__u32 node;			/* automaton's state */
	__u32 pos;			/* in the topic, or in what is collected */
	__u32 sum;			/* checksum of what is collected */
	struct trace_key traced;	/* of a message that somebody looks at */
	__u32 pad1;
	struct trace_event trace;
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
