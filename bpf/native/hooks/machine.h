/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * machine.h - a machine of a few processors that runs the programs of
 * eproxy.bpf.c natively. Each task runs on a processor of its own, as a
 * coroutine; it can be stopped wherever another processor could see, or
 * change, what it works with. A schedule says who runs when, so that every
 * run can be repeated.
 */
#ifndef EPROXY_MACHINE_H
#define EPROXY_MACHINE_H

#include "abi.h"

#define TASKS	     3
#define HINTS	     16 /* entries of the hints map */
#define STEPS	     16 /* of one task */
#define TURNS	     8
#define RECORDS	     192
#define STEP_BYTES   1536
#define RECORD_BYTES 2624
#define NODE_IFINDEX 1 /* every other interface is a pod's */

/* What a processor does, one after another. */
enum step_kind {
	STEP_DEVICE_FRAME = 1, /* a frame arrives at the node interface: XDP, then TC ingress */
	STEP_POD_FRAME,	       /* a frame arrives at a pod interface: TC ingress */
	STEP_LOCAL_FRAME,      /* a local socket sends: TC egress */
	STEP_CONTROL,	       /* slot_control; a message taken over is copied from its buffer */
	STEP_DEVICE_CONTROL,   /* device_control; rights change to none */
	STEP_SWEEP,	       /* a tick of the sweeper's timer, with a whole pass */
	STEP_FREE,	       /* userspace forgets a connection: entry, then flow */
	STEP_ARM,	       /* userspace starts a generation: entry, then flow */
	STEP_DEVICE,	       /* userspace writes a device's part */
	STEP_SLOT,	       /* userspace writes a slot's part */
	STEP_SOCKET,	       /* a slot's socket enters the socket map, changes its state or leaves */
	STEP_RELOAD,	       /* userspace switches to the routes whose root is index, then the epoch */
	STEP_ENTER,	       /* the fallback wants a place at pod index; without one it waits */
	STEP_LEAVE,	       /* the fallback gives one back */
	STEP_PARK_TAKE,	       /* userspace takes a message that waits, reads it and frees its entry */
	STEP_PARK_SEND,	       /* userspace has the programs send what waits in queue index */
	STEP_POD,	       /* userspace sets `up` of pod index to state */
	STEP_SLEEP,	       /* pod_control of pod index: op */
	STEP_ALIAS,	       /* alias_control: the topic of a device's alias op, in bytes */
};

struct step {
	__u32 kind;
	__u32 index;	    /* conn */
	__u32 gen;	    /* 0: the one that the task armed last */
	__u32 conn_kind;    /* STEP_ARM */
	struct tuple tuple; /* STEP_FREE, STEP_ARM */
	__u32 ifindex;	    /* frames */
	__u32 xdp;	    /* STEP_DEVICE_FRAME: XDP first */
	__u32 after;	    /* STEP_POD_FRAME: only once so many frames left towards pods; else it comes later */
	__u32 state;	    /* STEP_SOCKET: TCP state; 0: leaves */
	__u32 op;	    /* STEP_CONTROL, STEP_DEVICE_CONTROL */
	__u32 overdue;
	__u32 repeat;	 /* STEP_CONTROL, STEP_PARK_TAKE: until it refuses */
	__u32 packet_id; /* STEP_DEVICE_CONTROL: DEVICE_OP_HOLD */
	__u32 dup;
	__u32 hold; /* STEP_DEVICE_CONTROL: DEVICE_OP_RELEASE */
	__u64 read; /* STEP_DEVICE_CONTROL: DEVICE_OP_BOUNDARY */
	/* STEP_LOCAL_FRAME: what the socket tells about its connection */
	__u32 rcv_nxt;
	__u32 snd_una;
	struct device device; /* STEP_DEVICE; its gen is filled in */
	struct slot slot;     /* STEP_SLOT */
	__u32 len;
	__u8 bytes[STEP_BYTES];
};

/* A task runs on until it has passed so many points, or is over. */
struct turn {
	__u32 task;
	__u32 points;
};

/* What came of it, in order. */
enum record_kind {
	RECORD_DEVICE_WIRE = 1, /* a frame left through the node interface */
	RECORD_POD_WIRE,	/* a frame left towards a pod */
	RECORD_DEVICE_LOCAL,	/* a device's frame was passed to the local stack */
	RECORD_POD_LOCAL,	/* a pod's frame was passed to the local stack */
	RECORD_DROP,		/* a frame was dropped */
	RECORD_EVENT,
	RECORD_CONTROL, /* with the request that was taken over */
	RECORD_DEVICE_CONTROL,
	RECORD_PARKED, /* a message that userspace took, with its request */
	RECORD_ROUSED, /* userspace has something for a pod that was asleep */
	RECORD_COPY, /* a message for subscribers, in its place in the ring; bytes are a struct copy, len is 0 if it was discarded */
};

struct record {
	__u32 kind;
	__u32 task;
	__u32 ifindex;
	__u32 len;
	union {
		struct event event;
		struct slot_args control;
		struct device_args device;
		struct message parked;
	};
	__u8 bytes[RECORD_BYTES];
};

struct machine {
	/* shared by the programs and userspace */
	struct conn *conns;
	struct device *devices;
	struct slot *slots;
	struct pod *pods;
	struct request *requests;
	struct function *functions;
	struct route *routes;
	struct node *nodes;
	struct globals *settings;
	__u64 *attention;
	struct sweeper *sweeper;
	struct parking *parking;
	struct queue *queues;
	struct parked_message *parked;
	struct kept *kept; /* one, of all connections */
	__u8 *shared;	   /* all maps that change, as bytes */
	__u64 shared_len;
	volatile __u32 *slot_count; /* knob_slots */
	volatile __u32 *pipeline;   /* knob_pipeline */

	/* what is to run */
	__u64 now_ns;
	__u32 tasks;
	__u32 turns;
	__u32 fine;	   /* every access is a point, also under a lock */
	__u32 copies_full; /* the ring copies has no room any more when it is to be reserved */
	__u32 planted;	   /* the mistake that is in force; 0: none */
	__u32 steps[TASKS];
	struct turn turn[TURNS];
	struct step step[TASKS][STEPS];

	/* what came of it */
	__u32 stopped[TURNS]; /* the turn ended at its point, not with its task */
	__u32 points[TASKS];
	__u32 records;
	struct record record[RECORDS];
	char fault[160]; /* what no program may do: locks, references */

	void (*flow)(const struct tuple *key, __u32 index);
	void (*edge)(const struct edge_key *key, __u32 node);
	void (*clear)(void);
	void (*save)(void);
	void (*restore)(void);
	void (*run)(void);
	__u64 (*reason)(__u32 hook, __u32 reason);
};

#endif
