/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * abi.h - what the observer of HTTP to pods shares with userspace. Go sees it
 * through generated types only. Padding is explicit. Unless a field's type says
 * __be16 or __be32, it is in host byte order.
 */
#ifndef EPROXY_OBSERVE_ABI_H
#define EPROXY_OBSERVE_ABI_H

#include <linux/types.h>

#define OBSERVE_LINE	32   /* bytes of a line that are kept: all that say where a message ends, or what it is, fit */
#define OBSERVE_LOOK	512  /* bytes of a packet that are fetched at a time; a power of two */
#define OBSERVE_STEPS	8192 /* most steps of the scan of one packet; what needs more is not followed */
#define OBSERVE_ASKED	16   /* most requests of one connection that may wait for their responses; a power of two */
#define OBSERVE_BUCKETS 208  /* of the histograms: eight for each power of two, from 2^OBSERVE_FIRST ns on */
#define OBSERVE_FIRST \
	10 /* below 2^10 ns (1 microsecond) all is in the first bucket, beyond 2^36 ns (68 s) in the last */
#define OBSERVE_CLASSES 8 /* responses by the first digit of the status, 1 to 5; a power of two */
#define OBSERVE_IDLE_S \
	300 /* a connection on which nothing is awaited is forgotten after so many seconds without a packet */
#define OBSERVE_NOW    20   /* bits for how many requests are in flight */
#define OBSERVE_UNIT   10   /* the integral of that is in units of so many bits of nanoseconds */
#define OBSERVE_GONE_S 3600 /* one on which something is awaited, after so many */

/* What a connection carries. Index of observed.protocols. */
enum observe_protocol {
	PROTOCOL_UNKNOWN = 0,  /* no byte has been seen */
	PROTOCOL_HTTP1 = 1,    /* HTTP/1.1 or 1.0: followed */
	PROTOCOL_HTTP2 = 2,    /* its preface was seen: bytes only */
	PROTOCOL_TLS = 3,      /* bytes only */
	PROTOCOL_UPGRADED = 4, /* another protocol since a 101, or a tunnel since a 2xx to CONNECT: bytes only */
	PROTOCOL_OTHER = 5,    /* bytes only */
	PROTOCOL_COUNT = 6,
};

/* Why a connection is not followed any more. Index of observed.unfollowed. */
enum observe_why {
	WHY_GAP = 0,	   /* bytes of a head came in the wrong order, or were not seen */
	WHY_MALFORMED = 1, /* what came is not HTTP/1, or a length that can be read in two ways */
	WHY_UNASKED = 2,   /* a response to no request that was seen */
	WHY_DEPTH = 3,	   /* more requests await their responses than are kept */
	WHY_STEPS = 4,	   /* more lines in a packet than are looked at */
	WHY_JOINED = 5,	   /* it was open before, and did not begin a request when it was first seen */
	WHY_FULL = 6,	   /* more connections than limits.observed says */
	WHY_COUNT = 7,
};

/* Whose requests are counted: a pod's address. */
struct observe_pod {
	__be32 address[4]; /* IPv4 as ::ffff:a.b.c.d */
	__be16 port;
	__u16 pad;
};

/* What is known of a request, by a field of its head or its connection. Index of observe_counts.marked and observe_flight.marked, plus one. */
enum observe_mark {
	MARK_NONE = 0,
	MARK_PROBE = 1,	  /* the kubelet's (User-Agent: kube-probe/..., or K-Kubelet-Probe) */
	MARK_PROXIED = 2, /* Knative's activator has counted it (K-Proxy-Request: activator) */
	MARK_OWN = 3,	  /* the programs have put it in; counted with its response */
	MARK_COUNT = 4,
};

/* What is counted of a pod, on each processor. */
struct observe_counts {
	__u64 requests;	     /* whose first line was seen */
	__u64 request_bytes; /* of TCP payload, each once, whatever the protocol */
	__u64 response_bytes;
	__u64 peak;			  /* most requests in flight at a time, as this processor has seen it */
	__u64 took_ns;			  /* sum of the durations of all requests in the histogram */
	__u64 first_ns;			  /* the same, to the first byte of the final response */
	__u64 own_ns;			  /* the durations of the requests of MARK_OWN */
	__u64 responses[OBSERVE_CLASSES]; /* that were complete; 1xx: each, also those before the final one */
	__u64 marked[MARK_COUNT - 1];	  /* requests of a mark, which are among the others */
	__u64 unanswered;		  /* requests whose connection ended before their response did */
	__u64 unknown;			  /* requests whose response was not followed */
	__u64 untimed; /* responses that are in no histogram: when their request was sent is not known */
	__u64 protocols[PROTOCOL_COUNT]; /* connections, when they were found to carry it */
	__u64 unfollowed[WHY_COUNT];	 /* connections */
	__u64 took[OBSERVE_BUCKETS];	 /* from the first byte of the request to the last one of the response */
	__u64 first[OBSERVE_BUCKETS];	 /* to the first byte of the final response */
};

/*
 * Requests in flight to a pod, of all processors: all of them, and those of a mark among them. Each is one word, that one
 * atomic addition changes when a request begins or is over, so that whoever reads it has both what it holds:
 *
 *   the low OBSERVE_NOW bits: how many are in flight (of a mark: signed, as a response may overtake its request's mark)
 *   above them, in units of 2^OBSERVE_UNIT ns: the sum of the times when requests were over, less those when they began
 *
 * With the requests in flight times the time that it is, the latter is the integral of the former, modulo its bits.
 */
struct observe_flight {
	__u64 all;
	__u64 marked[MARK_OWN - 1];
};

/* A connection. */
struct observe_key {
	__be32 local[4];  /* the client's address */
	__be32 remote[4]; /* the pod's */
	__be16 local_port;
	__be16 remote_port;
};

/* The beginning of a line. */
struct line {
	__u8 b[OBSERVE_LINE];
};

/* Where the scan of one direction stands. */
struct stream {
	__u64 left; /* bytes of the body, or of a chunk, that are to come; STREAM_ENDLESS: until the connection ends */
	__u64 length;	/* Content-Length of the message at hand */
	__u64 began_ns; /* CLOCK_MONOTONIC, its first byte */
	__u32 next;	/* sequence number behind all that was scanned */
	__u16 status;	/* of a response */
	__u8 at;	/* enum stream_at */
	__u8 line_len;	/* bytes in line; OBSERVE_LINE: or more */
	__u8 body;	/* left counts */
	__u8 chunked;
	__u8 has_length;
	__u8 framed;	  /* the last field line said where the message ends: it must not go on */
	__u8 bodiless;	  /* of a response: to HEAD */
	__u8 tunnel;	  /* of a request: CONNECT; of a response: to it */
	__u8 begun;	  /* sequence number is known */
	__u8 mark;	  /* enum observe_mark, of the request's latest field; whoever reads it clears it */
	struct line line; /* the beginning of the line at hand, if a packet has cut it, or it is long */
};

struct observe_conn {
	__u64 word; /* atomically: requests answered, above them requests seen, on top CONN_LOST */
	__u64 started
		[OBSERVE_ASKED]; /* when the requests that wait began, with what else is known of them in the lowest bits */
	struct stream request;
	struct stream response;
	__u64 seen_ns; /* the last packet */
	__u64 slot_ns; /* when the request of the response at hand was taken; 0: not known */
	__u32 pod;     /* index into observed */
	__u32 slot;    /* conn index of a connection that the programs put requests into; NO_INDEX: it is none */
	__u32 busy[2]; /* somebody reads a packet of this direction */
	__u8 protocol; /* enum observe_protocol */
	__u8 joined;   /* its beginning was not seen */
	__u8 fin;      /* bit 0: the client has ended its direction, bit 1: the pod has */
	__u8 pad[5];
};

/* What the sweep is told, and answers. */
struct observe_sweep {
	__u64 now_ns;
	__u64 idle_ns; /* a connection on which nothing is awaited goes after so long */
	__u64 gone_ns; /* any goes after so long */
	__u32 pod;     /* all of this pod go; NO_INDEX: of none */
	__u32 forgotten;
	__u32 kept;
	__u32 pad;
};

#endif
