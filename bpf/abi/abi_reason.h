/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* abi_reason.h - who counts, and what: the rows and columns of the map reasons. */
#ifndef EPROXY_ABI_ABI_REASON_H
#define EPROXY_ABI_ABI_REASON_H

#include "abi_limits.h"

/* Which hook counted. Row of the reasons map. */
enum hook {
	HOOK_XDP_DEVICE = 0,
	HOOK_TC_DEVICE_IN = 1,
	HOOK_TC_DEVICE_OUT = 2,
	HOOK_TC_POD_IN = 3,
	HOOK_TC_POD_OUT = 4,
	HOOK_CONTROL = 5,
	HOOK_COUNT = 6,
};

/*
 * Why a packet was not (or was) taken. Append only: the numbers are in
 * dashboards. The comment behind each value is its description in
 * docs/REASONS.md and in `mapsctl reasons`.
 */
/* A reason and its description stand in one line: docs are generated from it. */
/* clang-format off */
enum reason {
	REASON_TAKEN = 0,            /* PUBLISH taken: became an HTTP request in the kernel */
	REASON_RESPONSE = 1,         /* complete 2xx response removed: became the PUBACK, or an ACK for QoS 0 */
	REASON_RESPONSE_PART = 2,    /* part of a response removed and acknowledged to the pod */
	REASON_ACK_ABSORBED = 3,     /* acknowledgement that the local socket need not see */
	REASON_TRANSLATED = 4,       /* passed to the local stack, or from it to the peer, with translated sequence numbers */
	REASON_DONE_BY_ACK = 5,      /* pod acknowledged a request before answering: acknowledged to the device */
	REASON_REINJECTED = 6,       /* retransmission of a taken PUBLISH: request injected again */
	REASON_PUBACK_RESENT = 7,    /* PUBACK sent again: its PUBLISH came again, or (hook control) nobody acknowledged it */
	REASON_OLD_DUPLICATE = 8,    /* payload below the acknowledged position: answered with an ACK */
	REASON_AHEAD = 9,            /* payload beyond the next expected byte: passed to the local socket; while a pod's response is half removed or none is due, or beyond the socket's window, answered with an ACK */
	REASON_CHALLENGE = 10,       /* RST or ACK that no honest peer sends: challenge ACK or silence (RFC 5961) */
	REASON_NOT_OPEN = 11,        /* connection known but not open for grafting (yet, or no more) */
	REASON_TCP_FLAGS = 12,       /* SYN, RST or URG set, FIN right behind the message (XDP: anywhere in the segment), or TCP options present (at TC: others than SACK) */
	REASON_NOT_NEXT = 13,        /* sequence number is not the next expected one, or later bytes have been passed before these: the local socket gets all until the hole is filled */
	REASON_NO_BOUNDARY = 14,     /* segment does not start at an MQTT packet boundary */
	REASON_LOST_TRACK = 15,      /* MQTT boundaries unknown until userspace names one */
	REASON_BAD_CHECKSUM = 16,    /* TCP checksum wrong, or not yet computed by the sender's interface */
	REASON_NOT_PUBLISH = 17,     /* another MQTT control packet */
	REASON_QOS2 = 18,            /* QoS 2 PUBLISH: exactly-once is the fallback's */
	REASON_RETAIN = 19,          /* RETAIN set: the broker has to keep it */
	REASON_PARTIAL = 20,         /* message continues in another segment */
	REASON_MULTI = 21,           /* segment holds more than one MQTT packet: TC takes them, unless it is too long to be cut where the socket lags */
	REASON_MALFORMED = 22,       /* not valid MQTT: the server closes the connection */
	REASON_PROPERTIES = 23,      /* MQTT 5 properties that the kernel path does not take (Response Topic, Correlation Data), or that are not valid */
	REASON_TOPIC_LONG = 24,      /* topic or one of its levels longer than the kernel path handles */
	REASON_NO_ROUTE = 25,        /* no route matches: ordinary broker traffic */
	REASON_ROUTE_FALLBACK = 26,  /* route is served by the fallback (fan-out, also_broker with persistence or a broker behind, batch, structured events, from_publisher, ordered with a spool, or no pod that the kernel path reaches) */
	REASON_NOT_GRANTED = 27,     /* client may not be known to be allowed on this topic yet */
	REASON_NO_SLOT = 28,         /* no idle connection to a pod of the function */
	REASON_DEAD_SOCKET = 29,     /* slot's socket is gone or not ESTABLISHED */
	REASON_TOO_LARGE = 30,       /* request larger than the slot's buffer or the pod's segment size, or client id and user name too long for the kernel path */
	REASON_HEADROOM = 31,        /* request head larger than XDP's headroom: TC takes it */
	REASON_NO_XDP_TARGET = 32,   /* pod interface cannot receive XDP redirects: TC takes it */
	REASON_RING_FULL = 33,       /* too many messages of this client in flight */
	REASON_POD_WINDOW = 34,      /* pod's receive window too small for the request */
	REASON_FAMILY = 35,          /* device and pod are of different address families */
	REASON_RACE = 36,            /* state changed on another CPU while the request was being made */
	REASON_DEVICE_GONE = 37,     /* response arrived, but the device's connection is gone */
	REASON_PUBACK_HANDED = 38,   /* PUBACK could not be inserted: written by userspace */
	REASON_RESPONSE_HANDED = 39, /* response not digestible in the kernel (not 2xx, chunked and not whole in its segment, split or unusual head): read by userspace */
	REASON_SLOT_RETIRED = 40,    /* slot retired: closed by the pod, unexpected bytes, a response before its request, or Connection: close */
	REASON_LATE_RESPONSE = 41,   /* bytes on a slot that was retired before: its socket, which is being aborted, drops them */
	REASON_TRIMMED = 42,         /* local segment straddled an insertion: it left in pieces, or what is too long for that cut to its first */
	REASON_BROKEN = 43,          /* bytes bypassed the programs while grafts were open: connection aborted */
	REASON_REDIRECT_ERROR = 44,  /* making or sending a packet failed: it is dropped, retransmission recovers */
	REASON_INJECTED = 45,        /* injected packet seen at egress: passed untouched */
	REASON_RESYNC = 46,          /* userspace named a message boundary: grafting goes on */
	REASON_TAKEN_OVER = 47,      /* message taken over by userspace after a failed or late response */
	REASON_LISTENER_SYN = 48,    /* SYN to a listener: options that grafting cannot honour replaced by NOP */
	REASON_DUP_REQUEST = 49,     /* duplicate of a request still in flight: answered or dropped */
	REASON_TOPIC_NAME = 50,      /* topic name with NUL, wildcard, or invalid UTF-8: the server closes the connection */
	REASON_PACKET_ID = 51,       /* QoS 1 PUBLISH with packet identifier 0: the server closes the connection */
	REASON_SLOT_WRITE = 52,      /* copying the payload into the slot's buffer failed */
	REASON_ACK_NEWS = 53,        /* segment also acknowledges bytes of the local socket: TC takes it and passes that on */
	REASON_XDP_QUEUE = 54,       /* client has several messages in flight: TC takes it, without a queue that could overflow */
	REASON_XDP_LEFT = 55,        /* segment without payload that the local socket may have to see: TC decides */
	REASON_RAW = 56,             /* passed as it is: a SYN on a known connection, or one that ended just now */
	REASON_SEEDED = 57,          /* first segment of an armed connection's socket: its ledger begins */
	REASON_HELD = 58,            /* acknowledgement of the local socket that brings the peer no news: not sent */
	REASON_REUSED = 59,          /* SYN-ACK on a known 4-tuple: what was known of it belongs to the past */
	REASON_SLOT_SYN = 60,        /* SYN of a slot: options that grafting cannot honour replaced by NOP */
	REASON_LOAD_ERROR = 61,      /* reading a PUBLISH from its packet failed: the fallback serves it */
	REASON_TRANSLATE_ERROR = 62, /* writing sequence numbers into a packet failed: it is dropped, retransmission recovers */
	REASON_CUT_ERROR = 63,       /* cutting a segment failed: it is dropped, retransmission recovers */
	REASON_SYN_ERROR = 64,       /* replacing options in a SYN failed: it is dropped, retransmission recovers */
	REASON_SHAPE_ERROR = 65,     /* copy of a segment that could not become what it was sent for, or whose bytes are another's by now: dropped */
	REASON_EVENT_LOST = 66,      /* ring of events full: userspace was not notified */
	REASON_ACK_SWEPT = 67,       /* acknowledgement that no packet carried in time: the sweeper has it sent */
	REASON_NO_ENTRY = 68,        /* a map has no entry for a known connection: passed */
	REASON_ICMP_TRANSLATED = 69, /* ICMP error about a segment in flight: passed with the sequence number that the local socket knows it by */
	REASON_ICMP_STRAY = 70,      /* ICMP error on a known connection that quotes nothing in flight: passed as it is */
	REASON_ICMP_PART = 71,       /* ICMP error that quotes too little of a TCP segment, or IPv6 extension headers: passed as it is */
	REASON_DUP = 72,             /* PUBLISH with DUP: passes behind all that came before it to the server, which finds out whether it is a repetition */
	REASON_REPEATED = 73,        /* PUBLISH with DUP that repeats a message under way on either path: not delivered, its original's PUBACK stands for it */
	REASON_REQUEST_RESENT = 74,  /* request sent to the pod again: duplicate ACKs show that it got lost, or (hook control) nobody acknowledged it in time, or an ICMP error says that it was too long for the path */
	REASON_PATH_MTU = 75,        /* ICMP error: the path to a pod takes only shorter segments than known; requests beyond them go to the fallback */
	REASON_PARKED = 76,          /* PUBLISH taken: its request waits in the kernel for a connection to a pod */
	REASON_UNPARKED = 77,        /* request that waited left for a pod */
	REASON_PARK_FULL = 78,       /* no idle connection to a pod, and too many messages wait for one already: the function's, or the client's */
	REASON_PARK_HANDED = 79,     /* message that waited is userspace's now: its deadline is near, or no connection is left or takes it */
	REASON_KEPT = 80,            /* beginning of a PUBLISH at the end of a segment: kept until the next segment brings the rest, not acknowledged meanwhile */
	REASON_KEPT_VAIN = 81,       /* beginning that was kept: what came next was not its rest, or the message could not be taken; the local socket gets it after all */
	REASON_PROPERTIES_LONG = 82, /* MQTT 5 properties of more than 256 bytes, more than 4 user properties, or a name of more than 64 bytes among them */
	REASON_PROPERTY_TEXT = 83,   /* content type or user property with other characters than printable ASCII, a user property's name that no header can have, or trace context */
	REASON_EXPIRY = 84,          /* message with an expiry would have to wait for a connection to a pod: it waits in the fallback, which counts its time */
	REASON_ORDERED = 85,         /* PUBLISH on an ordered route: XDP leaves it to TC, which has it wait for the one before */
	REASON_ORDER_UNKNOWN = 86,   /* PUBLISH on an ordered or also_broker route behind bytes of the stream that the server has not said to have done with: it may have a message that came before */
	REASON_COPIED = 87,          /* copy of a PUBLISH that was taken, handed to userspace for subscribers (also_broker) */
	REASON_COPIES_FULL = 88,     /* PUBLISH on an also_broker route while userspace has too many copies to read: the fallback serves both its function and subscribers */
	REASON_ALIAS = 89,           /* topic alias of which is not certain what it stands for: the PUBLISH may give it its topic, or comes behind one that may and that the server has not read, or its topic is none of a route, or one of an also_broker route */
	REASON_COUNT = 90,
};
/* clang-format on */

#endif
