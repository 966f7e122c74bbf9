/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* abi_device.h - what is particular to a device's connection. */
#ifndef EPROXY_ABI_ABI_DEVICE_H
#define EPROXY_ABI_ABI_DEVICE_H

#include "abi_conn.h"

/* Bit of a client's rights; the bits above it are their version. */
enum right {
	RIGHTS_ALL = 1, /* no per-topic permission applies */
};

/* What userspace says of the bytes that it had read when it armed a connection. */
enum arm_flag {
	ARM_BOUNDARY = 1, /* they end at an MQTT packet boundary */
	ARM_CLEAR = 2, /* it has no message under way that may not be followed by others: what DEVICE_OP_CLEAR says */
};

/* What a connection's entry remembers of its last topic. */
enum cache_flag {
	CACHE_PLAIN = 1, /* no byte of it is percent-encoded in ce-subject */
	CACHE_COPY = 2,	 /* ROUTE_COPY */
};

/* Four packet identifiers. Lane n of ids are its bits 16n to 16n+15; 0: free. */
struct id_block {
	__u64 ids;
	__u16 gen[4]; /* changes whenever a message is entered */
};

/* Packet identifiers of QoS 1 messages under way, on both paths (ids.h). The first lines have the entries that are used first. */
struct ids {
	__u64 used;    /* bit n: entry n */
	__u32 outside; /* messages that found no room: a repetition of one of them is not known as such */
	__u16 table;   /* number of its table (struct id_table), from 1; 0: it has none */
	__u16 gen;     /* of the entry there that was used last */
	struct id_block block[IDS_MAX / 4];
};

/*
 * Packet identifiers of one connection that its struct ids has no room for, each at the place that its
 * lowest bits name. The connection gives the table back when it is empty; then all its ids are 0.
 */
struct id_table {
	__u32 taken;  /* 1: a connection has it, or just takes it; changed atomically */
	__u32 count;  /* identifiers */
	__u16 number; /* its own */
	__u16 pad[3];
	__u16 ids[IDS_TABLE]; /* 0: free */
	__u16 gen[IDS_TABLE]; /* of who uses the entry, or has last */
};

/*
 * What is particular to a device's connection; same index as its conn, less
 * the number of slots. Written by userspace before arming, later by the
 * programs under the conn's lock. Mapped by userspace, which only reads then.
 */
struct device {
	__u64 last_take_ns; /* CLOCK_MONOTONIC, when a message was last taken */
	__u32 taken;	    /* messages taken, modulo 2^32 */
	__u32 copies;	    /* those of them that the ring copies has, or had, a copy of, modulo 2^32 */
	__u32 gen;
	__u32 read;   /* arm: bytes of the stream that userspace had read, modulo 2^32 */
	__u32 anchor; /* kernel sequence number of stream offset 0 */
	__u32 rights; /* version of the client's rights, and RIGHTS_ALL; in one word, so that nobody reads half of a change */
	/* the last topic's route, if it is no longer than CACHE_TOPIC, and the route is not ordered */
	__u32 cache_version; /* changes whenever one of the next is, or the rights are */
	__u32 cache_epoch;   /* globals.epoch it was found under; 0: empty */
	__u32 cache_counter;
	__u32 cache_function;
	__u32 last_slot;	/* that the latest message was given to; valid while some are in flight */
	struct framing framing; /* what was passed on to the local socket */
	__u16 inflight_max;	/* limit of the conn's in_flight, 1 to INFLIGHT_MAX */
	__u8 sender_len[2];	/* bytes of sender, by function.from_publisher; above SENDER_MAX: it is too long */
	__u8 arm;		/* enum arm_flag: what userspace says of those bytes */
	__u8 version;		/* MQTT protocol level: 3, 4 or 5 */
	__u8 stopped;		/* the session ended before the connection was seeded */
	__u8 cache_topic_len;
	__u8 cache_topic[CACHE_TOPIC];
	__u8 cache_flags; /* enum cache_flag */
	__u8 kept;	  /* 1: the beginning of its next message is kept, or was (keep.h) */
	__u8 keep_rest;	  /* so many beginnings are not kept: the last one was in vain */
	__u8 not_taken;	  /* enum reason of the latest message that the local socket got; REASON_TAKEN: none */
	__u32 line;	  /* the client's part of the names of its lines */
	/* rest of ce-source, X-Mqtt-Username, X-Mqtt-Client-Id (request.Sender); what a shorter one has comes first */
	__u8 sender[SENDER_MAX];
	struct ids ids;
	/* topic aliases (alias.h) */
	__u16 aliases; /* bit n - 1: alias n has a topic, in alias_tables */
	__u8 alias_unread; /* 1: userspace has not read all that was passed and may change them: nothing of the table is certain */
	__u8 pad;
	__u32 alias_end; /* kernel: where that ends */
};

/*
 * The beginning of a PUBLISH that its segment's end has cut, until the rest comes (keep.h). Its bytes are
 * not acknowledged to the device: whoever finds that they are of no use may forget them.
 */
struct kept {
	__u32 busy; /* 1: a processor works with the entry; changed atomically */
	__u32 conn; /* conn index of the device */
	__u32 gen;
	__u32 seq;   /* wire position of the first byte */
	__u32 len;   /* bytes that are kept; 0: none */
	__u32 whole; /* bytes of the whole message, at most KEPT_MAX */
	__u32 ms;    /* when they were kept, CLOCK_MONOTONIC */
	__u32 pad;
	__u8 bytes[2 * KEPT_MAX]; /* what is kept, then the rest; twice as much, for the verifier */
};

#endif
