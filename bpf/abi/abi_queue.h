/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* abi_queue.h - messages that wait for slots. */
#ifndef EPROXY_ABI_ABI_QUEUE_H
#define EPROXY_ABI_ABI_QUEUE_H

#include "abi_slot.h"

/*
 * A message that waits for a slot: taken from the device's stream and done there, its
 * request finished. Nobody but who has its number may touch it.
 */
struct parked_message {
	struct message message; /* taken_ns: when it was parked; acked, due, request_seq: none */
	__u8 pad[8];
	__u8 buf[REQUEST_MAX];
};

/*
 * The messages of one client that wait for one function, or those of a line: of one client on one ordered route, of which one at a
 * time is on its way (line.h). Entries of both kinds are named by numbers from 1; 0: none.
 */
struct park_client {
	__u64 line;   /* whose it is (struct routed); 0: it is none */
	__u32 client; /* conn index, 0 of a line; the highest bit is set if it is an IPv6 client */
	__u32 queue;  /* of a line: where its messages wait */
	__u16 first;  /* the oldest message, */
	__u16 last;   /* and the youngest */
	__u16 count;
	__u16 turn;	   /* the client whose turn comes behind this one's; of a free entry the next free one */
	__u16 turn_before; /* the one whose turn comes before */
	__u16 before;	   /* neighbours in its bucket */
	__u16 after;
	__u16 pending; /* of a line: messages that were admitted and are not among the others yet */
	__u16 held;    /* of a line: so many times userspace is in front: with messages that it took, or got itself */
	__u8 flight;   /* of a line: one is with a pod, or on the way there (enum line_flight) */
	__u8 watched;  /* of a line: userspace is to be told when that one ends */
	__u16 ahead;   /* of a line: messages that were put among the others since some are pending */
};

/* All messages that wait for slots (parking.h). The lock also guards the queues, but for what is said there. */
struct parking {
	struct bpf_spin_lock lock;
	__u32 limit;			 /* entries below this have memory; userspace raises it */
	__u32 used;			 /* messages */
	__u32 fresh;			 /* highest number of a message that was ever used, */
	__u32 clients_fresh;		 /* and of a client */
	__u32 asked;			 /* 1: userspace was asked for more memory; it clears it, without the lock */
	__u16 free;			 /* number of a message that is free, */
	__u16 clients_free;		 /* and of a client */
	__u32 lines;			 /* in use */
	__u64 attended[QUEUES_MAX / 64]; /* queues that the sweeper looks at, without the lock */
	__u16 next[PARKED_MAX];		 /* the client's next younger message; of a free one the next free one */
	__u16 previous[PARKED_MAX];	 /* the client's next older message */
	__u32 since_ms[PARKED_MAX];	 /* when a message was parked, CLOCK_MONOTONIC */
	__u32 order[PARKED_MAX];	 /* a client's messages by age, modulo 2^32 */
	struct park_client clients[PARK_CLIENTS];
	__u16 line_bucket[LINE_BUCKETS]; /* lines by their names */
};

/*
 * A function's messages that wait for slots: clients have one after another their turn, and each
 * its own messages in order. Userspace writes function, handover_ms, most and id_prefix.
 */
struct queue {
	__u32 function;		     /* index of the function as it is now; NO_INDEX: it is gone */
	__u32 count;		     /* messages, with those that are just being parked */
	__u32 popped[PARK_FAMILIES]; /* messages that have left it, by their clients' family */
	__u32 looked[PARK_FAMILIES]; /* popped, when the sweeper last looked */
	__u64 ids;	   /* messages so far: the second half of their ce-id, and the ninth digit of its first */
	__u32 handover_ms; /* a message that has waited so long becomes userspace's */
	__u32 refused;	   /* family of the latest message that no slot took */
	/* clients in the order of their turns: those of a family wait for pods of the same one; behind these, by family, those that have none */
	__u16 first_turn[PARK_LISTS];
	__u16 last_turn[PARK_LISTS];
	__u32 most;		    /* messages that may wait; userspace changes it, without the lock */
	__u8 id_prefix[16];	    /* first half of ce-id, 12 hexadecimal digits; the ninth is written over */
	__u16 bucket[PARK_BUCKETS]; /* clients by their conn index */
};

#endif
