/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* abi_conn.h - one TCP connection, of a device or to a pod. */
#ifndef EPROXY_ABI_ABI_CONN_H
#define EPROXY_ABI_ABI_CONN_H

#include "abi_limits.h"

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
	CONN_CLEAR = 8192,    /* device: rx_clear is known */
};

enum graft_state {
	GRAFT_OPEN = 1, /* taken; its request may be injected (again) */
	GRAFT_DONE = 2, /* answered for: may be acknowledged to the peer */
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
	/* work space of follow.h */
	__u8 publish; /* the fixed header that is being read is a PUBLISH's */
	__u8 topics;  /* some PUBLISH may have brought a topic along */
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
	__u32 rx_clear; /* device; kernel: userspace has done with everything below it, or stands in front in the lines of what it has not */
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

#endif
