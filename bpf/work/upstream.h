/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* upstream.h - requests on their way to a pod (upstream). */
#ifndef EPROXY_WORK_UPSTREAM_H
#define EPROXY_WORK_UPSTREAM_H

#include "../mech/frame.h"

/*
 * Whom a request is from, and who gets what becomes of it. To upstream these are numbers: it keeps them with the request
 * (struct message) and gives them back; reply knows what they mean.
 */
struct origin {
	__u32 kind;	/* enum origin_kind */
	__u32 index;	/* of its entry: of a device, the conn index */
	__u32 gen;	/* of that entry */
	__u32 position; /* what the request answers for: of a device, the wire position of the PUBLISH */
};

/* What a request is to upstream, beside its bytes. */
struct order {
	const struct origin *from;
	__u32 counter; /* of its route and function */
	__u32 len;     /* bytes */
	__u16 id;      /* the origin's own number for it: of a device's message, the packet identifier */
	__u8 qos;      /* 0: nobody waits for its outcome */
	__u8 early;    /* as in struct message, as the following */
	__u32 hold;
	__u32 waited_us;
	__u32 line;
};

/* A place for one request: the slot whose bit in `filling` is ours, and where the request is in its stream. */
struct claim {
	__u32 slot;
	__u32 gen;
	__u32 number; /* of the request on the slot */
	__u32 seq;    /* the request's wire position */
	__u32 mss;
	__u32 far; /* the slot's pod is far away */
};

/* Requests that leave in one segment; a power of two. */
#define GROUP_MAX 16

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

/* Bytes of a request that leave in one segment of their own, where the whole does not fit any more. */
struct piece {
	__u32 slot;
	__u32 slot_gen;
	__u32 number; /* of the request */
	__u32 end;    /* of the requests that are sent again: one above the youngest */
	__u32 off;    /* of the piece in its request; a multiple of PIECE_UNIT */
	struct frame frame;
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

/* SCRATCH_UNPARK: messages that wait look for slots. */
struct unparking {
	__u32 pod;	/* of the slot that was claimed */
	__u32 reason;	/* enum reason: what came of it */
	__u32 shut_pod; /* of this pod's slots */
	__u32 pad;
	__u64 shut; /* these bits are of connections that took no request */
	struct unpark_walk walk;
};

#endif
