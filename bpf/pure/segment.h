/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * segment.h - what the state machine of a connection is told of a segment, and what it says. No kernel context.
 */
#ifndef EPROXY_PURE_SEGMENT_H
#define EPROXY_PURE_SEGMENT_H

#include "common.h"

#define TH_FIN 0x01
#define TH_SYN 0x02
#define TH_RST 0x04
#define TH_PSH 0x08
#define TH_ACK 0x10
#define TH_URG 0x20

/* What the state machine needs to know of a TCP segment, host byte order. */
struct segment {
	__u32 seq;
	__u32 ack;
	__u32 len;     /* payload bytes */
	__u16 wnd;     /* raw window field */
	__u8 flags;    /* TH_* */
	__u8 remove;   /* caller wants this payload removed from the stream */
	__u32 sack;    /* SACK blocks that came with it */
	__u8 in_order; /* nothing may pass beyond a hole */
	__u8 pad[3];
};

enum rx_action {
	RX_PASS,      /* to the local stack, translated: seq, ack, wnd, len */
	RX_PASS_RAW,  /* to the local stack, untouched */
	RX_ABSORB,    /* the local stack need not see it */
	RX_REMOVE,    /* the payload was removed; for OPEN grafts see verdict.graft */
	RX_ACK,	      /* answer with a bare ACK, drop */
	RX_RESEND,    /* answer with the insertion in verdict.graft, drop */
	RX_REINJECT,  /* retransmission of the open graft in verdict.graft */
	RX_CHALLENGE, /* answer with a bare ACK, drop: no honest peer sends this */
	RX_DROP,      /* drop silently */
};

/* What to do with a received segment. */
struct rx_verdict {
	__u32 seq;     /* kernel */
	__u32 ack;     /* kernel */
	__u32 len;     /* payload bytes to pass; less than received: cut, clear FIN and PSH */
	__u16 wnd;     /* raw window for the local socket */
	__u8 advanced; /* the peer acknowledged something new */
	__u8 ahead;    /* passes beyond bytes that are missing */
	struct graft graft;
};

/* The header fields of a segment that the program sends towards the peer. */
struct stamp {
	__u32 seq; /* wire */
	__u32 ack; /* wire */
	__u16 wnd; /* raw */
};

/* What to do with a segment of the local socket. */
struct tx_verdict {
	__u32 seq;  /* wire */
	__u32 ack;  /* wire */
	__u32 len;  /* payload bytes to send */
	__u16 wnd;  /* raw */
	__u8 reset; /* CONN_BROKEN: abort the connection; CONN_LOST: its boundary is lost; 0: neither */
	__u8 hold;  /* a bare ACK that would bring the peer no news: not to be sent */
	__u8 pad;
	__u8 cut; /* len or FIN reach beyond an insertion: cut to len (possibly all there are), clear FIN and PSH */
};

#endif
