/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* abi_slot.h - what is particular to a slot, and the messages in flight on it. */
#ifndef EPROXY_ABI_ABI_SLOT_H
#define EPROXY_ABI_ABI_SLOT_H

#include "abi_conn.h"

/* Life of a slot. Guarded by the spin lock of the conn with the same index. */
enum slot_state {
	SLOT_FREE = 0,	     /* not in use */
	SLOT_DIALLING = 1,   /* armed, connect() under way */
	SLOT_IDLE = 2,	     /* may be claimed when its bit in pod.idle is set */
	SLOT_BUSY = 3,	     /* requests in flight, no byte of the oldest one's response yet */
	SLOT_RESPONDING = 4, /* part of a digestible response removed */
	SLOT_PASSING = 6,    /* responses go to the slot's socket; userspace finishes the messages */
	SLOT_TAKEN_OVER = 7, /* userspace took the oldest message over */
	SLOT_RETIRED = 8,    /* to be closed and dialled again */
};

/* Losses among what a slot has in flight (recovery.h). */
struct recovery {
	__u32 recover; /* wire: SND.NXT when bytes were last sent again; what was lost below it has been */
	__u8 known;    /* recover is meant */
	__u8 on;       /* acknowledgements below recover show further holes */
	__u8 dup_acks; /* duplicate ACKs in a row */
	__u8 backoff;  /* how often the timeout has doubled since a round trip was measured */
};

/* Who a message is from. */
enum origin_kind {
	ORIGIN_DEVICE = 0, /* a client's connection */
};

/* A message whose request is in flight on a slot. */
struct message {
	__u64 taken_ns; /* CLOCK_MONOTONIC */
	__u32 origin;	/* index of whom it is from: of a device, the conn index */
	__u32 origin_gen;
	__u32 origin_position; /* of a device: wire position of the PUBLISH in its stream */
	__u32 counter;	       /* of its route and function */
	__u32 request_seq;     /* wire position of the request in the pod's stream */
	__u32 request_len;     /* bytes in its buffer */
	__u16 packet_id;
	__u8 qos;
	__u8 acked;	  /* the pod acknowledged the whole request */
	__u32 due;	  /* wire: once acked, where in the slot's stream its response may begin */
	__u32 hold;	  /* on its packet identifier (ids.h) */
	__u8 company;	  /* enum company */
	__u8 origin_kind; /* enum origin_kind */
	__u8 again;	  /* the request was sent more than once */
	__u8 early;	 /* it was done in its device's ledger when the slot got it: it had waited, or the pod is far */
	__u32 waited_us; /* how long it was parked before taken_ns, microseconds */
	__u32 sent_ms;	 /* when its request was last sent, CLOCK_MONOTONIC */
	__u32 line; /* of an ordered route: number of the line that it stands in (struct park_client); 0: it has none */
	__u32 pad;
};
_Static_assert(sizeof(struct message) == 64, "each has a cache line of its slot");

/* What was in flight on the slot when a message was given to it. */
enum company {
	COMPANY_NONE = 0,  /* nothing */
	COMPANY_SOME = 1,  /* no more than the pod has answered in order */
	COMPANY_TRIAL = 2, /* as many as it has yet to show that it can do with: nothing of that is QoS 0 */
};

/*
 * What is particular to a slot; same index as its conn. Requests are numbered
 * as they are inserted and answered in that order: those in flight are
 * [head, tail).
 */
struct slot {
	__u32 state; /* enum slot_state */
	__u32 pod;
	__u32 head;
	__u32 tail;
	__u32 plain;	  /* number of the latest QoS 0 message, plus one */
	__u32 left;	  /* bytes of the oldest one's response still to come */
	__u32 count;	  /* requests and connections so far, part of ce-id */
	__u32 acked;	  /* number of the oldest request that the pod has not acknowledged; at most tail */
	__u32 service_ns; /* time per response while some are awaited, smoothed */
	__u8 close_after; /* no more requests: that response is the last, or the pod has sent FIN */
	__u8 status;	  /* less 200, of the response of which some is left */
	__u8 stalled;	  /* userspace knows that the first response takes long */
	__u8 closed; /* a response said that it is the connection's last: what is behind it the pod does not read */
	__u64 responded_ns; /* CLOCK_MONOTONIC, when a response last ended */
	__u8 id_prefix[16]; /* first half of ce-id, 12 hexadecimal digits */
	/* second cache line */
	struct message messages[PIPELINE_MAX];
	struct recovery recovery;
	__u32 dials; /* connections so far; each is part of count */
	__u32 trial; /* number of the latest message whose company is COMPANY_TRIAL, plus one */
	__u32 came;  /* the requests below this number had reached the pod when it answered an earlier one */
	__u32 first; /* count when it was connected */
	__u32 pad1[10];
};

/* The bytes of a request in flight. */
struct request {
	__u8 buf[REQUEST_MAX];
};

#endif
