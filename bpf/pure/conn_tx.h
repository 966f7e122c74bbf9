/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * conn_tx.h - what becomes of a segment of the local socket of a grafted connection. Under its lock. No
 * kernel context: compiles natively.
 */
#ifndef EPROXY_PURE_CONN_TX_H
#define EPROXY_PURE_CONN_TX_H

#include "conn_books.h"

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
