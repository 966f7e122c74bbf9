/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* abi_control.h - arguments of the control programs (BPF_PROG_RUN context). */
#ifndef EPROXY_ABI_ABI_CONTROL_H
#define EPROXY_ABI_ABI_CONTROL_H

#include "abi_limits.h"

/* Arguments of the control programs (BPF_PROG_RUN context). */
enum slot_op {
	SLOT_OP_READY = 1,     /* DIALLING, or TAKEN_OVER with nothing in flight, all that came read -> IDLE */
	SLOT_OP_TAKE_OVER = 2, /* the oldest message is userspace's; if it was in flight -> TAKEN_OVER */
	SLOT_OP_RETIRE = 3,    /* any -> RETIRED */
	SLOT_OP_CLOSE = 4,     /* IDLE -> RETIRED: it is not needed */
};

/* Whether a slot operation was carried out. */
enum slot_result {
	SLOT_REFUSED = 0, /* the slot's generation or state does not allow it */
	SLOT_CHANGED = 1,
	SLOT_AGAIN = 2, /* a processor is making a request for the slot: ask again at once */
};

struct slot_args {
	__u32 slot;
	__u32 gen;
	__u32 op;   /* enum slot_op */
	__u32 only; /* SLOT_OP_TAKE_OVER: enum take_only */
	/*
	 * kernel: a place in the slot's stream. SLOT_OP_READY: what userspace reads
	 * next; from DIALLING the result, where the stream begins. SLOT_OP_TAKE_OVER:
	 * the result, where the message's response may begin (struct message).
	 */
	__u32 position;
	/* results */
	__u32 hold;  /* of the message, on its packet identifier */
	__u32 ok;    /* enum slot_result */
	__u32 state; /* state before */
	__u32 device;
	__u32 device_gen;
	__u32 request_len;
	__u32 counter; /* of its route and function */
	__u32 number;  /* of the request: its buffer is number modulo the pipeline depth */
	__u16 packet_id;
	__u8 qos;
	__u8 acked;
	__u64 taken_ns;
	__u32 company;	      /* enum company */
	__u32 closed;	      /* of the slot: the pod has said that it reads nothing more */
	__u32 waited_us;      /* before taken_ns, as in struct message */
	__u32 number_in_line; /* of the line that it stands in, which userspace holds now; 0: it has none */
	__u64 line;	      /* and its name */
};

/* Which messages SLOT_OP_TAKE_OVER is to take over. */
enum take_only {
	TAKE_ANY = 0,
	TAKE_OVERDUE = 1, /* one whose time is up */
	TAKE_TRIAL = 2,	  /* one on a slot where a trial is not answered in time */
};

enum park_op {
	PARK_OP_TAKE = 1, /* a message becomes userspace's */
	PARK_OP_FREE = 2, /* userspace has read a message that it took */
	PARK_OP_ROOM = 3, /* there is memory for more messages */
	PARK_OP_HOLD = 4, /* userspace is in front in a line, unless the programs have messages of it */
	PARK_OP_WATCH =
		5, /* who has the messages of a line; userspace is to be told when one ends that is with a pod */
	PARK_OP_RELEASE = 6, /* userspace is in front in a line once less */
};

struct park_args {
	__u32 op; /* enum park_op */
	__u32 queue;
	__u32 before_ms; /* PARK_OP_TAKE: only one that was parked no later, CLOCK_MONOTONIC */
	__u32 number; /* PARK_OP_FREE; PARK_OP_ROOM: entries below this; PARK_OP_RELEASE: of the line; result of PARK_OP_TAKE, PARK_OP_HOLD; of PARK_OP_WATCH: so many times userspace holds the line */
	__u32 ok;     /* result: 1: done; PARK_OP_RELEASE: 0: ask again at once */
	__u32 flight; /* result of PARK_OP_WATCH: a pod has a message of the line */
	__u32 waits;  /* result of PARK_OP_RELEASE: some of the line wait, in the queue */
	__u32 pad;
	__u64 line; /* PARK_OP_HOLD, PARK_OP_WATCH: its name; result of PARK_OP_TAKE; 0: the message has none */
};

enum pod_op {
	POD_OP_REST = 1,  /* AWAKE -> ASLEEP, if nothing is in flight */
	POD_OP_WAKE = 2,  /* ASLEEP -> WAKING, as a request does */
	POD_OP_AWAKE = 3, /* any -> AWAKE: its processes run */
};

struct pod_args {
	__u32 pod;
	__u32 op; /* enum pod_op */
	__u32 ok; /* result: 1: the state was changed */
	__u32 pad;
};

enum device_op {
	DEVICE_OP_BOUNDARY = 1, /* name a message boundary: all that userspace has read ends at one */
	DEVICE_OP_RIGHTS = 2,	/* the client's rights are others from now on */
	DEVICE_OP_STOP = 3,	/* the session is over: nothing more is taken */
	DEVICE_OP_HOLD = 4,	/* userspace has got a QoS 1 message: it is under way, unless it repeats one that is */
	DEVICE_OP_RELEASE = 5,	/* a message is over: whether it may be acknowledged */
	DEVICE_OP_CLEAR =
		6, /* what follows of ordered and also_broker routes may be taken, if that is next in the stream */
	DEVICE_OP_BEHIND = 7, /* it may not, until DEVICE_OP_CLEAR: subscribers take the client's copies too slowly */
};

struct device_args {
	__u64 read; /* DEVICE_OP_BOUNDARY, DEVICE_OP_CLEAR: bytes of the stream read so far */
	__u32 conn;
	__u32 gen;
	__u32 op;	 /* enum device_op */
	__u32 rights;	 /* DEVICE_OP_RIGHTS: the new ones, as in struct device */
	__u16 packet_id; /* DEVICE_OP_HOLD: not 0 */
	__u16 dup;	 /* DEVICE_OP_HOLD: of the PUBLISH */
	__u32 hold;	 /* DEVICE_OP_RELEASE; result of DEVICE_OP_HOLD: HOLD_NONE if the connection is gone */
	__u32 repeated;	 /* result of DEVICE_OP_HOLD: 1: it repeats a message that is under way */
	/* results */
	__u32 ok;    /* 1: done; DEVICE_OP_RELEASE: the identifier was still this message's */
	__u64 taken; /* messages taken of this connection so far: no other was, under the rights of before */
};

/* Arguments of conn_free. */
struct free_args {
	__u32 conn;
	__u32 gen;
	__u32 ok; /* result: 1: it was of this generation, and is free */
};

/* Arguments of link_control. */
struct link_args {
	__u32 conn;
	__u32 gen;
	__u32 ok; /* result: 1: done */
	__u8 dst_mac[6];
	__u8 src_mac[6];
};

#endif
