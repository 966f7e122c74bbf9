/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * abi.h - every struct and enum that the BPF programs share with userspace.
 *
 * Go sees these through generated types only. Padding is explicit (-Wpadded).
 * Unless a field's type says __be16 or __be32, it is in host byte order.
 * "wire" sequence numbers are what the peer sees, "kernel" sequence numbers
 * are what the local socket sees (see ledger.h).
 */
#ifndef EPROXY_ABI_H
#define EPROXY_ABI_H

#include <linux/types.h>
#include <linux/bpf.h>

#define ABI_VERSION 4	       /* of the pinned maps; one more whenever a map of an older version would be misread */
#define MARK_MAGIC  0x65705859 /* in the map mark: the directory of the pins is eproxy's */

#define CHUNK_SIZE	  256  /* entries in a chunk of the arrays that grow (chunk.h); a power of two */
#define LEDGER_RING	  64   /* unsettled grafts per connection and direction */
#define BOUNDED_TURNS	  24   /* in place of LEDGER_RING and PIPELINE_MAX where loops are bounded */
#define TOPIC_MAX	  128  /* bytes of a topic name in the kernel path */
#define LEVEL_MAX	  60   /* bytes of one topic level that can be looked up */
#define SENDER_MAX	  176  /* bytes of a request that say who sent it: client id and user name, encoded */
#define PREFIX_MAX	  512  /* bytes of a function's request prefix */
#define HEAD_MAX	  768  /* bytes of a request head, up to and including ce-subject; a multiple of 64 */
#define REQUEST_MAX	  2560 /* bytes of a slot's request buffer */
#define PAYLOAD_MAX	  1472 /* bytes of MQTT payload in the kernel path */
#define PODS_PER_FUNCTION 256  /* pods that one function may have */
#define SLOTS_PER_POD	  64   /* conn indexes reserved for each pod: the bits of its words */
#define POD_UP		  1    /* struct pod, up: gets messages */
#define POD_DRAINS	  2    /* gets none, but what it has in flight may end */
#define POD_DISCOVERED	  3    /* struct pod_reason, state, of pods that get none: not probed yet */
#define POD_SUSPECT	  4    /* rests, because it has failed */
#define POD_DRAINED	  5    /* as an operator wants it */
#define POD_PAUSED	  6    /* with its whole function */
#define CE_ID_LEN	  20 /* characters of ce-id: the slot's id_prefix and the count of its requests in hexadecimal */
#define INFLIGHT_MAX	  1024 /* messages of one client that may be in flight in the kernel path */
#define PARKED_MAX	  4096 /* entries for messages that wait for a slot, of all functions; a power of two */
#define PARKED_ROOM	  1024 /* of them that memory is there for beforehand */
#define PARK_BUCKETS	  64   /* of a queue's clients; a power of two */
#define QUEUES_MAX	  1024 /* functions with messages that wait; a multiple of 64 */
#define PARK_FAMILIES	  2    /* of clients and pods: IPv4, IPv6 */
#define KEPT_MAX	  1616 /* bytes of a message whose beginning may be kept (keep.h): PAYLOAD_MAX and the longest head */
#define KEPT_ENTRIES	  128	      /* beginnings that may be kept at once, of all connections; a power of two */
#define IDS_MAX		  64	      /* packet identifiers of messages under way that a connection's own entry holds */
#define IDS_TABLE	  1024	      /* entries of a table for those beyond, one identifier each; a power of two */
#define IDS_TABLES	  128	      /* such tables, of all connections; a power of two */
#define PIPELINE_MAX	  64	      /* requests in flight on one slot; a power of two */
#define HIST_BUCKETS	  40	      /* log2(ns) latency buckets */
#define STATUS_CODES	  100	      /* HTTP statuses that are counted, from 200 on */
#define NO_INDEX	  0xffffffffu /* in place of an index: none */
#define HOLD_SHIFT	  11 /* bits of a hold that are the number of its entry (ids.h); the generation is above */
#define HOLD_OUTSIDE	  0xfffffffeu /* hold of a message that found no room among the identifiers (ids.h) */
#define HOLD_NONE	  0xffffffffu /* hold of a message that has no identifier, or of a connection that is gone */

#define GRAFT_MAX   65535 /* bytes of one graft */
#define CACHE_TOPIC 48	  /* bytes of the topic that a device's entry remembers */
#define SUBJECT_MAX 384	  /* bytes of ce-subject: TOPIC_MAX, all percent-encoded */

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
	REASON_TCP_FLAGS = 12,       /* SYN, FIN, RST or URG set, or TCP options present (at TC: others than SACK) */
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
	REASON_PROPERTIES = 23,      /* MQTT 5 properties present */
	REASON_TOPIC_LONG = 24,      /* topic or one of its levels longer than the kernel path handles */
	REASON_NO_ROUTE = 25,        /* no route matches: ordinary broker traffic */
	REASON_ROUTE_FALLBACK = 26,  /* route is served by the fallback (fan-out, ordered, also_broker, or no pod that the kernel path reaches) */
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
	REASON_COUNT = 82,
};
/* clang-format on */

/* Life of a connection's entry in the conns map. */
enum conn_state {
	CONN_FREE = 0,
	CONN_ARMED = 1,	 /* userspace wants it; positions unknown until seeded at TC egress */
	CONN_OPEN = 2,	 /* seeded: ledgers valid, everything is translated */
	CONN_CLOSED = 3, /* RST seen or sent; translated until freed */
};

enum conn_kind {
	CONN_DEVICE = 1, /* MQTT connection of a device */
	CONN_SLOT = 2,	 /* idle HTTP connection to a pod */
};

/* Flags of struct conn. */
enum conn_flag {
	CONN_FIN_SENT = 1, /* local FIN left: nothing may be inserted any more */
	CONN_FIN_SEEN = 2, /* peer's FIN passed in order */
	CONN_PROBE = 4,	   /* a keepalive probe of the local socket is unanswered */
	CONN_BROKEN = 8,   /* ledger does not add up: userspace must abort it */
	CONN_IPV6 = 16,
	CONN_LOST = 32,	      /* MQTT boundaries unknown until userspace names one */
	CONN_NO_TAKE = 64,    /* nothing more is taken (drain) */
	CONN_RST_SENT = 128,  /* local RST left */
	CONN_SYN_SEEN = 256,  /* a SYN was passed: the stack answers it with a challenge ACK */
	CONN_FIN_AHEAD = 512, /* peer's FIN passed beyond a hole, at rx_fin */
	CONN_SACK = 1024,     /* both ends may send SACK blocks (RFC 2018) */
	CONN_MISSING = 2048,  /* the peer lacks bytes of the local socket, until SND.UNA passes tx_hole */
	CONN_PASSED = 4096,   /* armed: payload was passed, to rx_hole */
};

enum graft_state {
	GRAFT_OPEN = 1, /* taken; its request may be injected (again) */
	GRAFT_DONE = 2, /* answered for: may be acknowledged to the peer */
};

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

/* Where a connection's packets come from and go to; IPv4 as ::ffff:a.b.c.d. */
struct tuple {
	__be32 local[4];
	__be32 remote[4];
	__be16 local_port;
	__be16 remote_port;
};

/*
 * One graft: bytes removed from a received stream, or inserted into a sent one.
 * seq is the wire position of the first byte. There are 128 of these in each
 * connection's entry: what the slot's message or the clock says is not kept here.
 */
struct graft {
	__u32 seq;
	__u16 len;  /* bytes, at most GRAFT_MAX */
	__u8 state; /* enum graft_state */
	__u8 sent;  /* inserted PUBACK: how often it was sent again */
	/*
	 * Removed PUBLISH: conn index of the slot that answers for it; else NO_INDEX.
	 * Inserted PUBACK: its packet identifier and when it was last sent (puback_sent).
	 */
	__u32 who;
};

/* Grafts of one direction that are not settled, oldest at head. */
struct ledger {
	__u32 base; /* bytes of settled grafts, modulo 2^32 */
	__u16 head;
	__u16 count;
	__u16 open; /* of those, in state GRAFT_OPEN */
	__u16 kept; /* work space of ledger_compact */
	struct graft ring[LEDGER_RING];
};

/* Bytes that were sent by the local socket, or passed to it, a second time: where they lie in either space. */
struct again {
	__u32 wire;
	__u32 kernel;
	__u32 len; /* bytes; 0: there were none */
};

/* Where in its MQTT packets a stream stands. */
struct framing {
	__u32 left;   /* bytes of the current packet still to come */
	__u32 length; /* remaining length so far, while head > 0 */
	__u8 head;    /* bytes of the fixed header seen; 0: at a boundary or inside a body */
	__u8 bad;     /* framing is not MQTT */
	__u8 pad[2];
};

/*
 * One TCP connection, of a device or to a pod. All access under lock, except
 * for unlocked peeks that are repeated under it. Replaced as a whole only by
 * userspace with BPF_F_LOCK and a new gen.
 */
struct conn {
	/* first cache line: what every packet changes */
	struct bpf_spin_lock lock;
	__u32 gen;   /* changes at every reuse */
	__u16 state; /* enum conn_state */
	__u8 kind;   /* enum conn_kind */
	__u8 attended; /* 1: its bit in attention is set, or is about to be; without the lock, but for the sweeper (attention.h) */
	__u32 flags; /* enum conn_flag */

	/* receive: peer to us */
	__u32 rx_nxt;	/* wire: next expected byte */
	__u32 rx_kack;	/* kernel: latest acknowledgement of the local socket */
	__u32 rx_acked; /* wire: latest acknowledgement sent to the peer */
	__u32 rx_edge;	/* wire: right edge of the window offered to the peer */

	/* transmit: us to peer */
	__u32 tx_nxt;	 /* wire: SND.NXT */
	__u32 tx_una;	 /* wire: SND.UNA */
	__u32 tx_knxt;	 /* kernel: SND.NXT of the local socket */
	__u32 tx_kuna;	 /* kernel: latest acknowledgement passed to the local socket */
	__u32 tx_wnd;	 /* bytes the peer may be sent from tx_una */
	__u32 last_ms;	 /* last packet in or out, CLOCK_MONOTONIC */
	__u16 tx_rawwnd; /* latest raw window passed to the local socket */
	__u16 rx_rawwnd; /* raw window the local socket last sent */
	__u8 tx_wscale;	 /* shift of the peer's window field */
	__u8 rx_wscale;	 /* shift of our window field */
	__u16 in_flight; /* messages of this device that are with functions */

	/* second cache line: fixed once seeded */
	struct tuple tuple;
	__u32 tx_mss; /* bytes of one segment to the peer */
	__u32 ifindex;
	__u32 pseudo_sum; /* partial checksum of addresses and protocol */
	__u8 dst_mac
		[6]; /* link addresses towards the peer: of a packet that the kernel itself routed, later as its tables say */
	__u8 src_mac[6];
	__u16 vlan_tci; /* tag towards the peer; 0: none */
	__u16 pad;

	/* third cache line */
	__u32 challenge_ms; /* last rate-limited ACK */
	__u32 data_us;	    /* last payload of the local socket, CLOCK_MONOTONIC modulo 2^32 */
	__u32 notified_us;  /* last PUBACKs inserted, CLOCK_MONOTONIC modulo 2^32 */
	__u32 notified_seq; /* wire: where they begin */
	__u32 tx_max_wnd;   /* largest tx_wnd so far */
	__u32 tx_framed;    /* device; kernel: up to here tx_framing has followed what the local socket sent */
	struct framing tx_framing;
	__u32 rx_hole; /* wire: end of what was passed; above rx_nxt while bytes in between are missing */
	__u32 rx_fin;  /* wire: behind the peer's FIN (CONN_FIN_AHEAD) */
	__u32 rx_dups; /* duplicate acknowledgements of the local socket that wait for an open graft */

	/* the first grafts of each are in the cache line of its counters */
	__u32 srtt;    /* smoothed round-trip time, 1/8 ms; 0: none was measured */
	__u32 rttvar;  /* slot: its variation, 1/4 ms */
	__u32 rtt_low; /* slot: what short ones take, 1/16 ms: falls with each shorter one, rises slowly by those that a function has no part in */
	__u32 pad1;
	struct ledger rx;
	struct ledger tx;
	struct again rx_again; /* latest duplicate that the local socket was passed */
	struct again tx_again; /* latest retransmission of the local socket */
	__u32 tx_hole;	       /* wire: up to here the peer may lack bytes of the local socket (CONN_MISSING) */
	__u32 dup_ack;	       /* wire: acknowledgement of the peer that came again */
	__u32 dup_acks;	       /* so often */
	__u32 pad2;
};
_Static_assert(sizeof(struct conn) % 64 == 0, "entries begin with a cache line");

/* Bit of a client's rights; the bits above it are their version. */
enum right {
	RIGHTS_ALL = 1, /* no per-topic permission applies */
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
	__u64 taken;	    /* messages taken */
	__u32 gen;
	__u32 read;   /* arm: bytes of the stream that userspace had read, modulo 2^32 */
	__u32 anchor; /* kernel sequence number of stream offset 0 */
	__u32 rights; /* version of the client's rights, and RIGHTS_ALL; in one word, so that nobody reads half of a change */
	/* the last topic's route, if it is no longer than CACHE_TOPIC */
	__u32 cache_version; /* changes whenever one of the next is, or the rights are */
	__u32 cache_epoch;   /* globals.epoch it was found under; 0: empty */
	__u32 cache_counter;
	__u32 cache_function;
	__u32 last_slot;	/* that the latest message was given to; valid while some are in flight */
	struct framing framing; /* what was passed on to the local socket */
	__u16 inflight_max;	/* limit of the conn's in_flight, 1 to INFLIGHT_MAX */
	__u8 sender_len[2];	/* bytes of sender, by function.from_publisher; above SENDER_MAX: it is too long */
	__u8 at_boundary;	/* arm: those bytes end at an MQTT packet boundary */
	__u8 version;		/* MQTT protocol level: 3, 4 or 5 */
	__u8 stopped;		/* the session ended before the connection was seeded */
	__u8 cache_topic_len;
	__u8 cache_topic[CACHE_TOPIC];
	__u8 cache_plain; /* no byte of it is percent-encoded in ce-subject */
	__u8 kept;	  /* 1: the beginning of its next message is kept, or was (keep.h) */
	__u8 keep_rest;	  /* so many beginnings are not kept: the last one was in vain */
	__u8 not_taken;	  /* enum reason of the latest message that the local socket got; REASON_TAKEN: none */
	__u8 pad[4];
	/* rest of ce-source, X-Mqtt-Username, X-Mqtt-Client-Id (request.Sender); what a shorter one has comes first */
	__u8 sender[SENDER_MAX];
	struct ids ids;
};

/* Losses among what a slot has in flight (recovery.h). */
struct recovery {
	__u32 recover; /* wire: SND.NXT when bytes were last sent again; what was lost below it has been */
	__u8 known;    /* recover is meant */
	__u8 on;       /* acknowledgements below recover show further holes */
	__u8 dup_acks; /* duplicate ACKs in a row */
	__u8 backoff;  /* how often the timeout has doubled since a round trip was measured */
};

/* A message whose request is in flight on a slot. */
struct message {
	__u64 taken_ns; /* CLOCK_MONOTONIC */
	__u32 device;	/* conn index */
	__u32 device_gen;
	__u32 device_seq;  /* wire position of the PUBLISH in the device's stream */
	__u32 counter;	   /* of its route and function */
	__u32 request_seq; /* wire position of the request in the pod's stream */
	__u32 request_len; /* bytes in its buffer */
	__u16 packet_id;
	__u8 qos;
	__u8 acked;	 /* the pod acknowledged the whole request */
	__u32 due;	 /* wire: once acked, where in the slot's stream its response may begin */
	__u32 hold;	 /* on its packet identifier (ids.h) */
	__u16 company;	 /* enum company */
	__u8 again;	 /* the request was sent more than once */
	__u8 early;	 /* it was done in its device's ledger when the slot got it: it had waited, or the pod is far */
	__u32 waited_us; /* how long it was parked before taken_ns, microseconds */
	__u32 sent_ms;	 /* when its request was last sent, CLOCK_MONOTONIC */
};

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

/* The bytes of a request in flight. */
struct request {
	__u8 buf[REQUEST_MAX];
};

/*
 * One pod of one function. Bit n of a word is slot first_slot + (n << knob_pod_shift). idle, room, deeper
 * and busy follow the slot's state, under its lock; filling is a lock of its
 * own, held while the next request is made; reserved, fallback and waiting are
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
	__u32 pad1;
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

/*
 * A message that waits for a slot: taken from the device's stream and done there, its
 * request finished. Nobody but who has its number may touch it.
 */
struct parked_message {
	struct message message; /* taken_ns: when it was parked; acked, due, request_seq: none */
	__u8 pad[16];
	__u8 buf[REQUEST_MAX];
};

/* The messages of one client that wait for one function. Entries of both kinds are named by numbers from 1; 0: none. */
struct park_client {
	__u32 client; /* conn index; the highest bit is set if it is an IPv6 client */
	__u16 first;  /* the oldest message, */
	__u16 last;   /* and the youngest */
	__u16 count;
	__u16 turn;	   /* the client whose turn comes behind this one's; of a free entry the next free one */
	__u16 turn_before; /* the one whose turn comes before */
	__u16 before;	   /* neighbours in its bucket */
	__u16 after;
	__u16 pad;
};

/* All messages that wait for slots (parking.h). The lock also guards the queues, but for what is said there. */
struct parking {
	struct bpf_spin_lock lock;
	__u32 limit;	     /* entries below this have memory; userspace raises it */
	__u32 used;	     /* messages */
	__u32 fresh;	     /* highest number of a message that was ever used, */
	__u32 clients_fresh; /* and of a client */
	__u32 asked;	     /* 1: userspace was asked for more memory; it clears it, without the lock */
	__u16 free;	     /* number of a message that is free, */
	__u16 clients_free;  /* and of a client */
	__u32 pad;
	__u64 attended[QUEUES_MAX / 64]; /* queues that the sweeper looks at, without the lock */
	__u16 next[PARKED_MAX];		 /* the client's next younger message; of a free one the next free one */
	__u16 previous[PARKED_MAX];	 /* the client's next older message */
	__u32 since_ms[PARKED_MAX];	 /* when a message was parked, CLOCK_MONOTONIC */
	__u32 order[PARKED_MAX];	 /* a client's messages by age, modulo 2^32 */
	struct park_client clients[PARKED_MAX];
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
	/* clients in the order of their turns: those of a family wait for pods of the same one */
	__u16 first_turn[PARK_FAMILIES];
	__u16 last_turn[PARK_FAMILIES];
	__u32 most;		    /* messages that may wait; userspace changes it, without the lock */
	__u8 id_prefix[16];	    /* first half of ce-id, 12 hexadecimal digits; the ninth is written over */
	__u16 bucket[PARK_BUCKETS]; /* clients by their conn index */
};

/*
 * pods and pod_count change while programs read them: whatever they see, each of
 * pods[0] to pods[pod_count - 1] is or was one of the function's. The first ones, near of them, get
 * messages as long as they have idle slots; 0: all are alike.
 */
struct function {
	__u32 pod_count;
	__u32 near;
	__u32 prefix_len;
	__u32 from_publisher; /* 1: the longer sender of a device goes along */
	__u32 queue;	      /* of its messages that wait for a slot: the same after a reload */
	__u32 pad;
	__u32 pods[PODS_PER_FUNCTION];
	__u8 prefix[PREFIX_MAX]; /* request up to and including "ce-source: <source>/" */
};

enum route_flag {
	ROUTE_FALLBACK = 1, /* served by the fallback */
};

struct route {
	__u32 function;
	__u32 flags;   /* enum route_flag */
	__u32 counter; /* of its filter and function: the same after a reload */
};

/* Routing automaton: one edge lookup per topic level. */
struct node {
	__u32 plus;  /* node for a level without an edge of its own; NO_INDEX: none */
	__s32 exact; /* route if the name ends here; -1: none */
	__s32 hash;  /* route if the name goes on and nothing matches; -1: none */
};

struct edge_key {
	__u32 node;
	__u32 len;
	__u8 level[LEVEL_MAX];
};

/* Both roots are switched with one 64-bit store. */
struct globals {
	__u32 root;	   /* automaton for ordinary names */
	__u32 root_dollar; /* automaton for names that begin with '$' */
	__u32 epoch;	   /* changes with every reload; never 0 */
	__u32 draining;	   /* nothing more is taken */
	__u32 slots_end;   /* one above the highest conn index of a slot so far */
	__u32 conns_end;   /* one above the highest conn index so far */
	__u32 xdp_idle;	   /* no pod in service receives XDP redirects: XDP leaves everything to TC */
	__u32 tracing;	   /* 1: somebody looks at messages (trace.h) */
};

/* Key of listeners: where the MQTT server listens; of asleep: where a pod does. */
struct listener {
	__be32 address[4]; /* IPv4 as ::ffff:a.b.c.d; all zero: every address of this host, of both families */
	__be16 port;
	__u16 pad;
};

/* Key of grants: this client may publish to this topic. */
struct grant_key {
	__u32 conn;
	__u32 gen;
	__u32 rights; /* of the device, that the grant was made under */
	__u32 len;
	__u8 topic[TOPIC_MAX];
};

struct route_stats {
	__u64 taken[2]; /* by QoS */
	__u64 answered[2];
	__u64 nanoseconds;	  /* sum over answered */
	__u64 hist[HIST_BUCKETS]; /* bucket n: latency below 2^n ns */
};

/* What makes a directory of pins eproxy's own, and tells versions apart. */
struct pin_mark {
	__u32 magic;   /* MARK_MAGIC */
	__u32 version; /* ABI_VERSION */
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

struct pod_stats {
	__u64 answered[STATUS_CODES]; /* by status, less 200 */
};

/* What the counters of one index count: labels in userspace. */
struct route_series {
	__u32 filter_len;
	__u32 function_len;
	__u8 filter[1024];
	__u8 function[112];
};

struct pod_series {
	__be32 address[4]; /* IPv4 as ::ffff:a.b.c.d */
	__be16 port;
	__u16 function_len;
	__u8 function[112];
};

/* Names for people, so that the maps can be read without the loader. */
struct route_info {
	__u32 function;
	__u32 flags;
	__u32 len;
	__u8 filter[1020];
};

struct function_info {
	__u32 name_len;
	__u32 url_len;
	__u32 concurrency;
	__u32 timeout_ms;
	__u8 name[112];
	__u8 url[384];
};

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
	__u32 company;	 /* enum company */
	__u32 closed;	 /* of the slot: the pod has said that it reads nothing more */
	__u32 waited_us; /* before taken_ns, as in struct message */
	__u32 pad;
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
};

struct park_args {
	__u32 op; /* enum park_op */
	__u32 queue;
	__u32 before_ms; /* PARK_OP_TAKE: only one that was parked no later, CLOCK_MONOTONIC */
	__u32 number;	 /* PARK_OP_FREE; PARK_OP_ROOM: entries below this; result of PARK_OP_TAKE */
	__u32 ok;	 /* result: 1: done */
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
};

struct device_args {
	__u64 read; /* DEVICE_OP_BOUNDARY: bytes of the stream read so far */
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

#define TRACE_ANY 0xff /* struct tracing, reason: any */

/* Which messages somebody looks at (trace.h). Written by userspace while globals.tracing is 0, but for lost. */
struct tracing {
	__u64 lost;	  /* messages that were to be shown, and for which there was no room */
	__u32 sample;	  /* a message is looked at if a random number is no larger than this */
	__u32 queue;	  /* of the function that gets it; NO_INDEX: any */
	__u32 client_len; /* bytes of client; 0: any */
	__u32 topic_len;  /* bytes of topic; 0: any */
	__u16 status;	  /* of the response; 0: any, or none */
	__u8 reason;	  /* enum reason: why it was taken or not; TRACE_ANY */
	__u8 pad[5];
	__u8 topic[TOPIC_MAX];	 /* a topic filter */
	__u8 client[SENDER_MAX]; /* what the sender (struct device) of a client begins with */
};

/* Which message of which connection. */
struct trace_key {
	__u32 device; /* conn index */
	__u32 device_gen;
	__u32 device_seq; /* wire position of the PUBLISH */
};

/* What became of a message: a record of the ring traces. */
struct trace_event {
	__u64 ended_ns;	 /* CLOCK_MONOTONIC, when it was answered, or left to the local socket */
	__u64 took_ns;	 /* from taking it to the response */
	__u64 waited_ns; /* of that in the queue */
	__u32 device;	 /* conn index */
	__u32 device_gen;
	__u32 counter; /* of its route and function, if it was taken */
	__u32 pod;     /* index of the pod's counters, if it was answered */
	__u16 status;  /* of the response; 0: the local socket got it */
	__u8 hook;     /* enum hook that took it, or left it */
	__u8 reason;   /* enum reason */
	__u8 qos;
	__u8 topic_len; /* bytes of topic; 0: not known */
	__u8 topic_cut; /* 1: it is longer */
	__u8 pad;
	__u8 topic[TOPIC_MAX];
};

#define SWEEP_TAILS 512 /* connections that a pass may note, a power of two */

/* A connection whose oldest PUBACK, or request, is sent again at a time between two passes, unless it is acknowledged. */
struct tail {
	__u32 conn;
	__u32 due_ms; /* CLOCK_MONOTONIC */
};

/* The timer behind sweep.h. All but stopped is its own. */
struct sweeper {
	struct bpf_timer timer;
	__u32 stopped;	 /* 1: it does not run, and whoever sets a bit in attention starts it */
	__u32 next;	 /* conn index at which the next tick goes on */
	__u32 pass_ms;	 /* when the next pass begins, CLOCK_MONOTONIC; while next is 0 */
	__u32 found;	 /* connections that this pass has looked at */
	__u32 at;	 /* conn index, and */
	__u32 end;	 /* end of the range that is being looked through */
	__u32 budget;	 /* connections that may still be looked at in it */
	__u32 queues_ms; /* when the queues are looked at next */
	__u32 queues;	 /* of them that had messages */
	__u32 word;	 /* of the queues' bits that is being looked at */
	__u32 count;	 /* of tails */
	__u32 tail_ms;	 /* when the first of them is due */
	struct tail tails[SWEEP_TAILS];
};

#endif
