/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* abi_event.h - what the programs tell userspace. */
#ifndef EPROXY_ABI_ABI_EVENT_H
#define EPROXY_ABI_ABI_EVENT_H

#include "abi_limits.h"

enum event_kind {
	EVENT_PUBACK = 1,  /* write this PUBACK on the device's socket */
	EVENT_SLOT = 2,	   /* slot needs attention: retired or taken over */
	EVENT_BROKEN = 3,  /* abort the device's connection */
	EVENT_SEND = 4,	   /* sweeper: send this TCP segment on the wire */
	EVENT_OVERDUE = 5, /* sweeper: the slot's oldest message waits too long for its response */
	EVENT_PLACE = 6,   /* conn is the index of a pod that has a place, for which userspace waits */
	EVENT_SLOTS = 7,   /* conn is the index of a pod that lacks slots */
	EVENT_STALLED = 8, /* sweeper: the first response on the slot's connection takes long */
	EVENT_PROVEN = 9,  /* conn is the index of a pod that has answered as many trials as were wanted */
	EVENT_TRIAL = 10,  /* sweeper: a trial on the slot is not answered in time */
	EVENT_PARKED = 11, /* conn is the index of a queue whose messages need userspace */
	EVENT_ROOM = 12,   /* memory for messages that wait is scarce */
	EVENT_WAKE =
		13, /* in the ring wakes: conn is the index of a pod whose processes are frozen, and have something to do */
	EVENT_LOST =
		14, /* sweeper: the slot's oldest request was not acknowledged in time: requests_send sends it again */
	EVENT_LINE =
		15, /* a line's message is no longer with a pod; conn and gen are the lower and the upper half of its name */
};

struct event {
	__u32 kind;
	__u32 conn;
	__u32 gen;
	__u16 packet_id;
	__u8 qos;
	__u8 frame_len; /* EVENT_SEND: bytes in frame */
	__u32 ifindex;
	__u32 hold;	 /* EVENT_PUBACK: on the packet identifier */
	__u8 frame[144]; /* EVENT_SEND: Ethernet frame, checksums complete */
};

/*
 * In the ring copies: a PUBLISH that was taken, for subscribers (copy.h). The record may end within bytes: it
 * has room for COPY_SHORT of them where that is enough.
 */
struct copy {
	__u32 conn;
	__u32 gen;
	__u32 len; /* of bytes */
	__u32 pad;
	__u8 bytes[COPY_MAX]; /* the packet, from its fixed header on */
};

#endif
