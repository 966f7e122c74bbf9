/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* abi_pod.h - pods. */
#ifndef EPROXY_ABI_ABI_POD_H
#define EPROXY_ABI_ABI_POD_H

#include "abi_limits.h"

/*
 * One pod of one function. Bit n of a word is slot first_slot + (n << knob_pod_shift). idle, room, deeper
 * and busy follow the slot's state, under its lock; filling is a lock of its
 * own, held while the next request is made; reserved, fallback, waiting and what owed begins with are
 * userspace's. The places of a pod are as many as its function's concurrency
 * (pod_full in slot.h).
 */
struct pod {
	__u64 idle;	  /* no request in flight */
	__u64 room;	  /* some, and more may follow */
	__u64 filling;	  /* somebody makes the next request */
	__u64 reserved;	  /* not to be claimed by the programs: userspace waits for its place */
	__u64 busy;	  /* has a place: a request in flight, or a response that userspace reads */
	__u32 first_slot; /* also the pod's own index */
	__u32 function;
	__u32 ifindex;
	__u32 fallback; /* places of the fallback's own connections */
	__u8 up;	/* POD_UP, POD_DRAINS; 0: out of service */
	__u8 ipv6;
	__u8 xdp_ok;	 /* its interface receives XDP redirects */
	__u8 peer_ok;	 /* bpf_redirect_peer reaches it */
	__u32 denied_ms; /* when the programs last found no slot, CLOCK_MONOTONIC */
	/* second cache line */
	__be32 address[4];
	__be16 port;
	__u16 concurrency;
	__u32 timeout_ms; /* of its function: for a response */
	__u32 unacked_ms; /* how long its TCP may leave a request unacknowledged */
	__u32 counter;	  /* of its function and address */
	__u32 path_mss;	  /* bytes of one segment on the path to it, as an ICMP error said; 0: none did */
	__u32 path_ms;	  /* when it did, CLOCK_MONOTONIC */
	__u32 waiting;	  /* 1: userspace waits for a place; the programs say when there is one, and clear it */
	__u32 asked;	/* 1: the programs have asked for more slots, or need not: userspace clears it when they may */
	__u32 lacked;	/* messages that found no idle slot */
	__u32 stall_ms; /* how long a connection's first response may take before userspace looks why; 0: for ever */
	__u32 refuses;	/* 1: the latest connection to it could not be made */
	__u32 queue;	/* of its function */
	/* third cache line: how many requests may be in flight on a connection. Userspace's, but for deeper and wanted. */
	__u64 deeper; /* some in flight, and one more of QoS 1 would be a trial, or stands behind one */
	__u64 trial;  /* the slot that may have up to depth */
	__u32 proven; /* any slot may have so many, 1 to PIPELINE_MAX */
	__u32 depth;  /* what is being tried, at least proven, at most PIPELINE_MAX */
	__u32 wait_ns; /* none is added behind requests that are likely to take longer than this; 0: whatever they take */
	__u32 quota;   /* requests after which the pod has closed a connection: near them none is added; 0: not known */
	__s32 wanted;	/* responses to trials until userspace is told; at most 0: it is not */
	__u32 why;	/* enum depth_why */
	__u32 troubles; /* so often something went wrong on a connection with several requests in flight */
	__u32 far;	/* 1: on another node, as far as the way to it shows; for mapsctl */
	__u64 thawed_ns; /* when its processes last went on after they were frozen, CLOCK_MONOTONIC; 0: they never were */
	__u32 sleep;	 /* enum pod_sleep; changed atomically */
	__s32 owed; /* so many messages may be sent though places are reserved; at most 0: none. Changed atomically */
};

/* Whether a pod's processes run. One that is asleep has its slots all the same: the kernel keeps what comes for a frozen process. */
enum pod_sleep {
	POD_AWAKE = 0,
	POD_ASLEEP = 1, /* they are frozen, or about to be: who has something for them says so */
	POD_WAKING = 2, /* somebody has: userspace lets them go on */
};

/* Why the connections to a pod have as many requests in flight as they have at most. */
enum depth_why {
	DEPTH_FIXED = 0,   /* the configuration says so */
	DEPTH_UNUSED = 1,  /* more was not needed yet */
	DEPTH_TRYING = 2,  /* more is being tried */
	DEPTH_PROVEN = 3,  /* it has answered so many in order */
	DEPTH_CLOSED = 4,  /* it closed a connection with requests unanswered */
	DEPTH_STALLED = 5, /* it answered one of several, and the next took too long */
	DEPTH_BROKEN = 6,  /* what it sent was no response to what was asked */
	DEPTH_STATUS = 7,  /* it refused a request that was a trial */
};

/* A pod of a function, whether it has slots or not. */
struct pod_key {
	__be32 address[4];
	__u32 function;
	__be16 port;
	__u16 pad;
};

/* Why a pod is not reached by XDP, not by the kernel path at all, or gets no messages. */
struct pod_reason {
	__u32 state; /* POD_DISCOVERED and the like; 0: it gets messages */
	__u32 len;
	__u32 far; /* 1: it is on another node, as far as the way to it shows */
	__u8 text[244];
};

/* Where userspace has switched GRO on at the far end of a veth pair: by its near end's ifindex. */
struct pod_gro {
	__u64 cookie;	/* of the far end's network namespace (SO_NETNS_COOKIE) */
	__u32 peer;	/* the far end's ifindex there */
	__u32 declined; /* 1: it was switched off again there since, and is nobody's to restore */
};

#endif
