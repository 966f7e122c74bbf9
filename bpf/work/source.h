/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* source.h - what is known of a message, and of the segment that it comes in, before it has a slot. */
#ifndef EPROXY_WORK_SOURCE_H
#define EPROXY_WORK_SOURCE_H

#include "../pure/conn.h"
#include "../pure/mqtt.h"

/* Queues in which messages of one segment may wait; the rest of a segment with more is userspace's. */
#define SEGMENT_QUEUES 8

/* Whether a message may be taken, and under what (admit, take). */
struct admission {
	__u32 refused; /* enum reason of the latest take; REASON_TAKEN: none */
	__u32 rights;  /* of the device, when the take began */
	__u32 version; /* of what its entry remembers of topics, which must be the same when the message is taken */
	__u32 kept; /* bytes of the message that came in the segment before: they are in the connection's struct kept */
	__u32 payload_len; /* of that message's payload */
};

/* A segment with messages while these are taken (take). */
struct taking {
	__u32 sent;  /* clones of the segment that left */
	__u32 last;  /* its last message is taken: the skb itself becomes the request */
	__u32 early; /* messages of the segment that are done though no pod has acknowledged them */
	__u32 vain;  /* a slot was claimed for nothing: who parked a message meanwhile saw it taken */
	__u32 queue; /* of that message's function */
	__u32 queue_count;
	__u32 queues[SEGMENT_QUEUES]; /* where those of them wait that found no slot */
};

/* A message that is taken with a copy for subscribers (take/copy.h): what take_settle is told, and says. */
struct copying {
	__u32 who;
	__u32 done;
	__u32 hold;
};

/* Where a device's segment stands in its stream (tc_device_in). */
struct arrival {
	__u32 lags;   /* the local socket has not acknowledged all that was passed */
	__u32 again;  /* it begins below the next byte, and the peer may hear of that */
	__u32 known;  /* the whole segment lies below the next byte */
	__u32 action; /* enum rx_action: how it is answered */
};

/* A segment of a local socket that leaves in pieces (TC egress). */
struct leaving {
	__u32 hook;   /* enum hook */
	__u32 framed; /* what conn_framed said */
};

#endif
