/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reply.h - what a segment of a pod brings about (upstream), and for whom (reply). */
#ifndef EPROXY_WORK_REPLY_H
#define EPROXY_WORK_REPLY_H

#include "../mech/frame.h"

/* What a pod's segment means for a message. */
enum done_kind {
	DONE_RESPONSE = 1, /* PUBACK, or an ACK for QoS 0 */
	DONE_ACKED = 2,	   /* the request has arrived: ACK to the device */
	DONE_MARKED = 3,   /* the same, notified with the next PUBACK or by the sweeper */
};

/* A pod's segment, while it goes through the ledger of its slot. */
struct answer {
	__u32 slot;
	__u32 gen;
	__u32 pod;
	__u32 pod_counter;
	__u32 queue;  /* of the pod's function */
	__u32 action; /* what is to be done with the segment: enum rx_action, */
	__u32 duties; /* enum pod_duty, */
	__u32 passed; /* and enum reason if it passes */
	__u32 blocks; /* it has SACK blocks: they are in sack */
	__u32 lost;   /* it shows that requests got lost */
	__u32 due;    /* where responses to the requests that it acknowledges may begin */
	__u32 lines;  /* not 0: some of the messages that it answers stand in lines */
	__u32 pad;
	__u32 proofs;		     /* its responses show that the pod answers several requests in order */
	__u8 statuses[PIPELINE_MAX]; /* of the completed responses, less 200 */
};

/* Messages that a pod's segment responds to or acknowledges. */
struct outcomes {
	__u32 count;
	__u32 kind[PIPELINE_MAX];  /* enum done_kind */
	__u8 status[PIPELINE_MAX]; /* less 200, of those that are answered */
	__u32 pad;
	struct message message[PIPELINE_MAX];
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

#endif
