/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * conn_books.h - what is acknowledged and offered to the peer of a grafted connection, and what is inserted
 * into its stream. Under its lock; the same for devices and pods. No kernel context: compiles natively.
 */
#ifndef EPROXY_PURE_CONN_BOOKS_H
#define EPROXY_PURE_CONN_BOOKS_H

#include "framing.h"
#include "hole.h"
#include "loss.h"
#include "segment.h"

/* Least time between two rate-limited ACKs of one connection (as net.ipv4.tcp_invalid_ratelimit). */
#define CHALLENGE_INTERVAL_MS 500

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

#endif
