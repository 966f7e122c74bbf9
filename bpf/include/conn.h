/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * conn.h - the state machine of one grafted TCP connection. No kernel context:
 * compiles natively. Everything here runs under the connection's lock and is
 * the same for devices and pods.
 */
#ifndef EPROXY_CONN_H
#define EPROXY_CONN_H

#include "framing.h"
#include "hole.h"
#include "loss.h"

#define TH_FIN 0x01
#define TH_SYN 0x02
#define TH_RST 0x04
#define TH_PSH 0x08
#define TH_ACK 0x10
#define TH_URG 0x20

/* Least time between two rate-limited ACKs of one connection (as net.ipv4.tcp_invalid_ratelimit). */
#define CHALLENGE_INTERVAL_MS 500

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

/* Whether segments of the connection are translated. */
static __always_inline bool conn_live(const struct conn *c)
{
	return c->state == CONN_OPEN || c->state == CONN_CLOSED;
}

/* The acknowledgement that may be sent to the peer now. */
static __always_inline __u32 conn_ack(struct conn *c)
{
	return ledger_ack_to_wire(&c->rx, c->rx_kack);
}

/* Records an acknowledgement as sent to the peer. */
static __always_inline void conn_ack_sent(struct conn *c, __u32 ack)
{
	if (seq_gt(ack, c->rx_acked))
		c->rx_acked = ack;
	ledger_settle(&c->rx, c->rx_acked);
}

/*
 * The raw window field towards the peer: what the local socket offered, but
 * the right edge never moves left (RFC 9293 section 3.8.6.2.1), even while an
 * open graft holds the acknowledgement back.
 */
static __always_inline __u16 conn_window(struct conn *c, __u32 ack)
{
	__u32 shift = c->rx_wscale & 15;
	__u32 edge = ack + ((__u32)c->rx_rawwnd << shift);
	__u32 wnd;

	if (seq_gt(edge, c->rx_edge))
		c->rx_edge = edge;
	/* Rounded up, as Linux does: a held back ack need not lie a multiple of the scale below the edge. */
	wnd = (c->rx_edge - ack + (1u << shift) - 1) >> shift;
	if (wnd > 0xffff)
		wnd = 0xffff;
	c->rx_edge = ack + (wnd << shift);
	return wnd;
}

/*
 * Header fields for a segment that is inserted at SND.NXT, or for a bare ACK
 * (see conn_bare).
 */
static __always_inline void conn_stamp(struct conn *c, struct stamp *s)
{
	s->seq = c->tx_nxt;
	s->ack = conn_ack(c);
	s->wnd = conn_window(c, s->ack);
	conn_ack_sent(c, s->ack);
}

/* Microseconds in which a packet passes from a socket, through a processor's queue, to the peer. */
#define CROSSING_US  300
/* Most microseconds that a program runs after it has read the clock. */
#define CLOCK_LAG_US 10000

/*
 * Whether bytes of the local socket left just now and are not acknowledged:
 * what another processor sends behind them may overtake them, which costs the
 * peer a duplicate ACK.
 */
static __always_inline bool conn_crossing(const struct conn *c, __u32 now_us)
{
	/* another processor's bytes may have left after the caller looked at the clock */
	return c->tx_una != c->tx_nxt && now_us + CLOCK_LAG_US - c->data_us <= CROSSING_US + CLOCK_LAG_US;
}

/* Microseconds in which PUBACKs leave and reach the peer's queue, from when the program that inserts them began. */
#define NOTIFYING_US 100

/*
 * The sequence number for a bare ACK that would have seq. PUBACKs that another
 * processor inserted below seq just now may still be on their way: an ACK that
 * overtakes them would show the peer a hole. It gets the number of the first of
 * them instead.
 */
static __always_inline __u32 conn_before_notified(const struct conn *c, __u32 seq, __u32 now_us)
{
	bool fresh = now_us + CLOCK_LAG_US - c->notified_us <= NOTIFYING_US + CLOCK_LAG_US;

	return fresh && seq_gt(seq, c->notified_seq) && seq_le(c->tx_una, c->notified_seq) ? c->notified_seq : seq;
}

/*
 * Header fields for a bare ACK. Where it might overtake bytes of the local
 * socket its sequence number is SND.UNA: with SND.NXT it would show the peer a
 * hole.
 */
static __always_inline void conn_bare(struct conn *c, struct stamp *s, __u32 now_us)
{
	conn_stamp(c, s);
	s->seq = conn_crossing(c, now_us) ? c->tx_una : conn_before_notified(c, s->seq, now_us);
}

/*
 * Whether what the peer has been sent ends with a whole MQTT packet. The local
 * socket may stop anywhere: its window or its buffer was full, or its program
 * is still writing.
 */
static __always_inline bool conn_at_boundary(const struct conn *c)
{
	return c->tx_framed == c->tx_knxt && framing_at_boundary(&c->tx_framing);
}

/* Whether len bytes may be inserted into the stream towards the peer now. */
static __always_inline bool conn_can_insert(struct conn *c, __u32 len)
{
	/* behind an insertion the socket would not see that its bytes are missing: blocks for that one alone vanish */
	if (c->kind == CONN_DEVICE && (!conn_at_boundary(c) || loss_of_socket(c)))
		return false;
	if (c->state != CONN_OPEN || (c->flags & (CONN_FIN_SENT | CONN_RST_SENT | CONN_BROKEN)))
		return false;
	if (ledger_full(&c->tx, LEDGER_RING))
		return false;
	return c->tx_nxt + len - c->tx_una <= c->tx_wnd;
}

/* Inserts len bytes at SND.NXT; conn_can_insert holds. */
static __always_inline struct graft *conn_insert(struct conn *c, __u32 len, __u32 now_ms)
{
	struct graft *g = ledger_push(&c->tx, c->tx_nxt, len);

	ledger_done(&c->tx, g);
	puback_sent(g, 0, now_ms);
	c->tx_nxt += len;
	return g;
}

/* Undoes the youngest insertion, if nothing was sent behind it. Returns whether it did. */
static __always_inline bool conn_uninsert(struct conn *c, __u32 seq, __u32 len)
{
	struct graft *g;

	if (!c->tx.count)
		return false;
	g = ledger_at(&c->tx, c->tx.count - 1);
	if (g->seq != seq || g->len != len || c->tx_nxt != seq + len)
		return false;
	c->tx_nxt -= len;
	ledger_pop(&c->tx);
	return true;
}

/*
 * Marks the message at the wire position seq, that this slot answers for, as done. Returns
 * false if there is none. A generation of a device has one message at each position, as long as
 * anybody may speak of it.
 */
static __always_inline bool conn_done(struct conn *c, __u32 slot, __u32 seq)
{
	repeat(i, c->rx.count) {
		struct graft *g;

		g = ledger_at(&c->rx, i);
		if (g->who == slot && g->seq == seq) {
			ledger_done(&c->rx, g);
			if (c->rx.count >= LEDGER_COMPACT)
				ledger_compact(&c->rx);
			return true;
		}
	}
	return false;
}

/* Whether a PUBACK for this packet identifier was inserted that the device has not acknowledged. */
static __always_inline bool conn_notifying(struct conn *c, __u16 id)
{
	repeat(i, c->tx.count) {
		if (puback_id(ledger_at(&c->tx, i)) == id)
			return true;
	}
	return false;
}

/* At most one rate-limited ACK per connection and interval. */
static __always_inline bool conn_may_answer(struct conn *c, __u32 now_ms)
{
	if (now_ms - c->challenge_ms < CHALLENGE_INTERVAL_MS)
		return false;
	c->challenge_ms = now_ms;
	return true;
}

/*
 * Whether the peer's acknowledgement can be: not of what was never sent, nor of
 * what was acknowledged more than the largest window ago (RFC 5961 section 5.2).
 */
static __always_inline bool conn_ack_ok(const struct conn *c, const struct segment *s)
{
	return seq_le(s->ack, c->tx_nxt) && !seq_lt(s->ack, c->tx_una - c->tx_max_wnd);
}

/*
 * The kernel position of what an ICMP error quotes at the wire position seq. Returns
 * false unless that is in flight, SND.UNA <= seq <= SND.NXT (a bare ACK has
 * SND.NXT): the error is then about nothing that the local socket could still
 * care for, or forged (RFC 5927 section 4.1; tcp_v4_err).
 */
static __always_inline bool conn_quoted(struct conn *c, __u32 seq, __u32 *kernel)
{
	*kernel = ledger_strip(&c->tx, seq);
	return seq_ge(seq, c->tx_una) && seq_le(seq, c->tx_nxt);
}

/* The peer's acknowledgement and window. Returns false unless conn_ack_ok. */
static __always_inline bool conn_rx_ack(struct conn *c, const struct segment *s, struct rx_verdict *v, __u32 now_ms)
{
	if (!conn_ack_ok(c, s))
		return false;
	if (seq_lt(s->ack, c->tx_una))
		return true; /* old: packets cross */
	if (s->ack != c->tx_una) {
		v->advanced = 1;
		loss_round_trip(c, s->ack, now_ms);
		c->tx_una = s->ack;
		ledger_settle(&c->tx, c->tx_una);
	}
	c->tx_wnd = (__u32)s->wnd << (c->tx_wscale & 15);
	if (c->tx_wnd > c->tx_max_wnd)
		c->tx_max_wnd = c->tx_wnd;
	return true;
}

/*
 * The window as the local socket may use it: its right edge lies lower by the
 * insertions that the peer has not acknowledged.
 */
static __always_inline __u16 conn_kernel_window(struct conn *c, __u16 wnd)
{
	__u32 unacked = ledger_unacked(&c->tx, c->tx_una);
	__u32 less;

	if (!unacked)
		return wnd;
	less = (unacked + (1u << (c->tx_wscale & 15)) - 1) >> (c->tx_wscale & 15);
	return wnd > less ? wnd - less : 0;
}

static __always_inline enum rx_action conn_pass(struct conn *c, const struct segment *s, struct rx_verdict *v,
						__u32 len)
{
	/*
	 * An ACK from beyond all that was passed counts at the next byte: what lies
	 * between may be taken, and the socket's SND.WL1 must not get ahead.
	 */
	v->seq = ledger_strip(&c->rx, seq_gt(s->seq, c->rx_hole) ? c->rx_hole : s->seq);
	v->ack = ledger_strip(&c->tx, s->ack);
	v->len = len;
	v->wnd = conn_kernel_window(c, s->wnd);
	if (seq_gt(v->ack, c->tx_kuna))
		c->tx_kuna = v->ack;
	c->tx_rawwnd = v->wnd;
	c->flags &= ~CONN_PROBE;
	return RX_PASS;
}

/*
 * Whether the local socket can do without this bare acknowledgement: it must
 * see whatever it may be waiting for, that is news of its own bytes, a response
 * to its probe, or a window that changed much. Records the acknowledgement.
 */
static __always_inline bool conn_absorb(struct conn *c, const struct segment *s, struct rx_verdict *v, __u32 now_ms)
{
	__u32 kack, small = (2 * c->tx_mss) >> (c->tx_wscale & 15);

	if (s->len || s->flags != TH_ACK || s->sack || seq_lt(s->seq, c->rx_acked) || !conn_rx_ack(c, s, v, now_ms))
		return false;
	kack = ledger_strip(&c->tx, s->ack);
	if (kack != c->tx_kuna || kack != c->tx_knxt || (c->flags & CONN_PROBE))
		return false;
	if (s->wnd < c->tx_rawwnd / 2 || s->wnd / 2 > c->tx_rawwnd)
		return false;
	/* with a window of so few segments the socket may be waiting for any change */
	if (s->wnd != c->tx_rawwnd && (s->wnd <= small || c->tx_rawwnd <= small))
		return false;
	c->last_ms = now_ms;
	return true;
}

/* Whether the local socket has acknowledged everything that it was passed. */
static __always_inline bool conn_caught_up(struct conn *c)
{
	return ledger_strip(&c->rx, c->rx_nxt) == c->rx_kack;
}

/*
 * A segment may begin with bytes that are known, its front, and go on with new
 * ones. Whether one that begins at the wire position seq may be passed whole:
 * its front then ends where the new bytes begin in kernel space, too, and the
 * socket trims it (RFC 9293 section 3.10.7.4). That is harmless if the socket
 * has everything below, or if those bytes really lie there: none was
 * acknowledged to the peer before, and none is part of a graft.
 */
static __always_inline bool conn_front_ok(struct conn *c, __u32 seq)
{
	if (conn_caught_up(c))
		return true;
	return seq_ge(seq, c->rx_acked) && !ledger_find(&c->rx, seq) &&
	       ledger_next(&c->rx, seq, c->rx_nxt) == c->rx_nxt;
}

/*
 * The length of a segment's front (see conn_front_ok), in bytes, if what follows
 * it may be handled as a segment of its own; else 0.
 */
static __always_inline __u32 conn_front(struct conn *c, const struct segment *s)
{
	__u32 front = c->rx_nxt - s->seq;

	if ((s->flags & (TH_SYN | TH_RST)) || !seq_lt(s->seq, c->rx_nxt) || front >= s->len)
		return 0;
	return conn_front_ok(c, s->seq) ? front : 0;
}

/* A segment without payload and FIN. */
static __always_inline enum rx_action conn_rx_bare(struct conn *c, const struct segment *s, struct rx_verdict *v,
						   __u32 now_ms)
{
	/*
	 * A keepalive probe asks for a response: SEG.SEQ = SND.UNA - 1. The
	 * program gives it, since it alone knows what was acknowledged to the peer.
	 */
	if (seq_lt(s->seq, c->rx_acked))
		return conn_may_answer(c, now_ms) ? RX_ACK : RX_DROP;
	if (conn_absorb(c, s, v, now_ms))
		return RX_ABSORB;
	return conn_pass(c, s, v, 0);
}

/*
 * After a take: whether the segment also acknowledged bytes of the local
 * socket, be it with SACK blocks; it would otherwise never hear of it and send
 * them again. If so, fills in the bare ACK to pass in its place.
 */
static __always_inline bool conn_news(struct conn *c, const struct segment *s, struct rx_verdict *v, __u32 blocks)
{
	struct segment bare = *s;

	if (!blocks && seq_le(ledger_strip(&c->tx, s->ack), c->tx_kuna))
		return false;
	bare.seq = c->rx_nxt;
	conn_pass(c, &bare, v, 0);
	return true;
}

/* Payload at or above the acknowledged position and below the next expected byte. */
static __always_inline enum rx_action conn_rx_again(struct conn *c, const struct segment *s, struct rx_verdict *v,
						    __u32 end)
{
	struct graft *g = ledger_find(&c->rx, s->seq);
	__u32 cut, fin;

	if (g) {
		v->graft = *g;
		return g->state == GRAFT_OPEN ? RX_REINJECT : RX_ACK;
	}
	cut = ledger_next(&c->rx, s->seq, seq_lt(end, c->rx_nxt) ? end : c->rx_nxt);
	/* A FIN merged with bytes that are known already is the next byte in order. */
	if ((s->flags & TH_FIN) && cut == c->rx_nxt && end == cut + 1) {
		c->flags |= CONN_FIN_SEEN;
		conn_advance(c, end);
		cut = end;
	}
	/* What the socket has acknowledged is answered for here, even if it is gone by now. */
	if (seq_le(ledger_strip(&c->rx, cut), c->rx_kack))
		return RX_ACK;
	fin = cut == end && (s->flags & TH_FIN) ? 1 : 0;
	return conn_pass(c, s, v, cut - s->seq - fin);
}

/*
 * A segment at or beyond the next expected byte. What the local socket has room
 * for passes, also beyond a hole: all grafts lie below, so that it is as far from
 * there in kernel space as on the wire.
 */
static __always_inline enum rx_action conn_rx_new(struct conn *c, const struct segment *s, struct rx_verdict *v)
{
	__s32 room = conn_room(c, s->seq);
	__u32 len = s->len, end;
	bool fin;

	if (room < 0)
		return RX_ACK;
	if (len > (__u32)room)
		len = room;
	fin = (s->flags & TH_FIN) && len == s->len;
	end = s->seq + len + fin;
	if (end == s->seq)
		return RX_ACK;
	if (s->seq == c->rx_nxt) {
		if (fin)
			c->flags |= CONN_FIN_SEEN;
		conn_advance(c, end);
	} else if (s->in_order) {
		return RX_ACK;
	} else {
		v->ahead = 1;
		if (seq_gt(end, c->rx_hole))
			c->rx_hole = end;
		if (fin) {
			c->flags |= CONN_FIN_AHEAD;
			c->rx_fin = end;
		}
	}
	return conn_pass(c, s, v, len);
}

/* The segment's payload, which is next, is removed from the stream. */
static __always_inline void conn_remove(struct conn *c, const struct segment *s)
{
	ledger_push(&c->rx, s->seq, s->len);
	conn_advance(c, s->seq + s->len);
}

/*
 * A message of a device is taken, if its segment may be: conn_rx for what the
 * caller has looked at already, without SYN, FIN and RST. Returns whether it is.
 */
static __always_inline bool conn_take(struct conn *c, const struct segment *s, struct rx_verdict *v, __u32 now_ms)
{
	if (!conn_next(c, s->seq) || !(s->flags & TH_ACK) || !conn_rx_ack(c, s, v, now_ms))
		return false;
	c->last_ms = now_ms;
	conn_remove(c, s);
	return true;
}

/*
 * What the answer to a duplicate reports (RFC 2883 section 4): the bytes that
 * came again, and, where they lie above the acknowledgement ack, those around
 * them that are here, too. Returns the number of blocks, 0 to 2.
 */
static __always_inline __u32 conn_duplicate(struct conn *c, const struct segment *s, __u32 ack, struct sack_block b[2])
{
	__u32 to = s->seq + s->len;
	struct graft *g;

	if (!(c->flags & CONN_SACK) || !s->len || !seq_lt(s->seq, c->rx_nxt))
		return 0;
	b[0].from = s->seq;
	b[0].to = seq_lt(to, ack) ? to : ack;
	if (seq_lt(s->seq, ack))
		return 1;
	g = ledger_find(&c->rx, s->seq);
	b[1].from = g ? g->seq : s->seq;
	b[1].to = g ? g->seq + g->len : ledger_next(&c->rx, s->seq, seq_lt(to, c->rx_nxt) ? to : c->rx_nxt);
	b[0].to = seq_lt(to, b[1].to) ? to : b[1].to;
	return 2;
}

/*
 * What becomes of a segment from the peer. Updates the ledger; the caller then
 * acts without the lock.
 */
static __always_inline enum rx_action conn_rx(struct conn *c, const struct segment *s, struct rx_verdict *v,
					      __u32 now_ms)
{
	__u32 end = s->seq + s->len + (s->flags & TH_FIN ? 1 : 0);
	__u32 floor;

	memset(v, 0, sizeof(*v));
	/* The stack itself answers a SYN on a live connection with a challenge ACK (RFC 5961 section 4). */
	if (s->flags & TH_SYN) {
		c->flags |= CONN_SYN_SEEN;
		return RX_PASS_RAW;
	}
	if (s->flags & TH_RST) {
		__u32 notified = conn_ack(c);

		/*
		 * Exactly the next byte (RFC 5961 section 3.2), ours or the one that
		 * was acknowledged to the peer, or the one behind all that was passed:
		 * whether the socket ends at that one depends on its queue.
		 */
		if (s->seq == c->rx_nxt || (s->seq == notified && ledger_strip(&c->rx, notified) == c->rx_kack))
			c->state = CONN_CLOSED;
		else if (s->seq != c->rx_hole)
			return conn_may_answer(c, now_ms) ? RX_CHALLENGE : RX_DROP;
		return conn_pass(c, s, v, s->len);
	}
	if (!(s->flags & TH_ACK))
		return RX_DROP; /* RFC 9293 section 3.10.7.4 */
	if (!conn_rx_ack(c, s, v, now_ms))
		return conn_may_answer(c, now_ms) ? RX_CHALLENGE : RX_DROP;
	c->last_ms = now_ms;
	if (end == s->seq)
		return conn_rx_bare(c, s, v, now_ms);

	floor = conn_ack(c);
	if (seq_lt(s->seq, floor)) {
		/*
		 * Acknowledged already, or about to be. What lies above comes again
		 * from there once the peer knows.
		 */
		if (c->tx.count && c->kind == CONN_DEVICE && seq_le(end, floor)) {
			struct graft *oldest = ledger_at(&c->tx, 0);

			v->graft = *oldest;
			puback_again(oldest, now_ms);
			return RX_RESEND;
		}
		return RX_ACK;
	}
	if (s->remove && conn_next(c, s->seq)) {
		conn_remove(c, s);
		return RX_REMOVE;
	}
	return seq_lt(s->seq, c->rx_nxt) ? conn_rx_again(c, s, v, end) : conn_rx_new(c, s, v);
}

/*
 * What becomes of the rest of a segment whose front conn_rx has just removed: new
 * payload without FIN, whose acknowledgement is accounted for, passes.
 */
static __always_inline enum rx_action conn_rx_rest(struct conn *c, const struct segment *s, struct rx_verdict *v)
{
	memset(v, 0, sizeof(*v));
	conn_advance(c, c->rx_nxt + s->len);
	return conn_pass(c, s, v, s->len);
}

/*
 * Payload bytes at the front of a local socket's segment whose framing has been
 * followed already: all of them, if it has nothing new or begins behind a gap.
 */
static __always_inline __u32 conn_framed(const struct conn *c, const struct segment *s)
{
	__u32 front = c->tx_framed - s->seq;

	return seq_le(s->seq, c->tx_framed) && front < s->len ? front : s->len;
}

/* After conn_tx, which let it pass whole: the framing of a segment, from the byte on that conn_framed said. */
static __always_inline void conn_frame_to(struct conn *c, const struct segment *s, __u32 front, const struct framing *w)
{
	if (front >= s->len || c->tx_framed != s->seq + front)
		return;
	c->tx_framing = *w;
	c->tx_framed = s->seq + s->len;
}

/* Duplicate acknowledgements that make a sender repeat a segment (RFC 5681 section 3.2). */
#define DUPS_MAX 3

/* Whether an open graft holds back what the local socket acknowledges. */
static __always_inline bool conn_held_back(struct conn *c)
{
	return conn_ack(c) != ledger_tx_to_wire(&c->rx, c->rx_kack);
}

/*
 * Whether a bare ACK of the local socket that repeats what the peer knows is not
 * sent. If bytes are missing the socket asks for them, and the peer must hear of it;
 * but where an open graft holds the acknowledgement back it would ask for the
 * graft. Then it waits until that is done (conn_dups), unless blocks say what is here.
 */
static __always_inline bool conn_hold(struct conn *c)
{
	if (!conn_hole(c))
		return true;
	if ((c->flags & CONN_SACK) || !conn_held_back(c))
		return false;
	if (c->rx_dups < DUPS_MAX)
		c->rx_dups++;
	return true;
}

/* How many duplicate acknowledgements that have waited are to be sent now, behind the acknowledgement itself. */
static __always_inline __u32 conn_dups(struct conn *c)
{
	__u32 n = c->rx_dups;

	if (!n || conn_held_back(c))
		return 0;
	c->rx_dups = 0;
	return conn_hole(c) ? n : 0;
}

/*
 * What becomes of a segment of the local socket. Updates the ledger.
 * s->seq and s->ack are kernel positions here.
 */
static __always_inline void conn_tx(struct conn *c, const struct segment *s, struct tx_verdict *v, __u32 now_ms)
{
	__u32 known, end, cut, acked, edge = c->rx_edge;

	memset(v, 0, sizeof(*v));
	v->seq = ledger_tx_to_wire(&c->tx, s->seq);
	v->len = s->len;
	v->wnd = s->wnd;
	c->last_ms = now_ms;
	if (s->flags & TH_RST) {
		c->flags |= CONN_RST_SENT;
		c->state = CONN_CLOSED;
		v->ack = s->flags & TH_ACK ? conn_ack(c) : 0;
		return;
	}
	if (seq_gt(s->ack, c->rx_kack)) {
		c->rx_kack = s->ack;
		c->rx_dups = 0;
	}
	acked = c->rx_acked;
	known = ledger_strip(&c->rx, c->rx_nxt);
	if (seq_gt(c->rx_kack, known) && !conn_follow(c, c->rx_kack)) {
		/* The socket has bytes that the ledger does not: they were in flight to it while it was armed. */
		v->reset = c->rx.count || c->rx.base ? CONN_BROKEN : CONN_LOST;
		c->flags |= v->reset;
		conn_advance(c, c->rx_nxt + (c->rx_kack - known));
	}
	c->rx_rawwnd = s->wnd;
	v->ack = conn_ack(c);
	v->wnd = conn_window(c, v->ack);
	/*
	 * This was acknowledged to the peer before: while an open graft holds the
	 * acknowledgement back, or by a bare ACK or PUBACK of the program. Sent
	 * again it would look like a duplicate, and three of them like a loss.
	 */
	if (!s->len && !(s->flags & TH_FIN) && v->ack == acked && c->rx_edge == edge && s->seq == c->tx_knxt &&
	    !(c->flags & CONN_SYN_SEEN))
		v->hold = conn_hold(c);
	c->flags &= ~CONN_SYN_SEEN;
	conn_ack_sent(c, v->ack);

	end = v->seq + s->len + (s->flags & TH_FIN ? 1 : 0);
	cut = ledger_straddle(&c->tx, v->seq, end - v->seq);
	if (cut != end) {
		/* Also when only the FIN, merged with bytes sent before the insertion, lies behind it. */
		v->cut = 1;
		v->len = cut - v->seq;
		end = cut;
	} else if (s->flags & TH_FIN) {
		c->flags |= CONN_FIN_SENT;
	}
	if (seq_gt(end, c->tx_nxt))
		c->tx_nxt = end;
	/* A probe, or a retransmission: the stack may have dropped the ACK that it was passed. */
	if (seq_lt(s->seq, c->tx_knxt))
		c->flags |= CONN_PROBE;
	if (seq_gt(s->seq + s->len + (s->flags & TH_FIN ? 1 : 0), c->tx_knxt))
		c->tx_knxt = s->seq + s->len + (s->flags & TH_FIN ? 1 : 0);
}

#endif
