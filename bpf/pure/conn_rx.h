/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * conn_rx.h - what becomes of a segment of the peer of a grafted connection. Under its lock. No kernel
 * context: compiles natively.
 */
#ifndef EPROXY_PURE_CONN_RX_H
#define EPROXY_PURE_CONN_RX_H

#include "conn_books.h"

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

/*
 * Whether the segment acknowledges less than the peer has by now: packets overtook each other. The grafts
 * that its acknowledgement lies among may have settled, so that nobody knows its kernel position. A lower one
 * would lie further back than the local socket has ever sent, which then drops the segment (tcp_ack,
 * net/ipv4/tcp_input.c, TCP_TOO_OLD_ACK): so it is passed with what was passed last.
 */
static __always_inline bool conn_ack_old(const struct conn *c, const struct segment *s)
{
	return (s->flags & TH_ACK) && seq_lt(s->ack, c->tx_una);
}

static __always_inline enum rx_action conn_pass(struct conn *c, const struct segment *s, struct rx_verdict *v,
						__u32 len)
{
	/*
	 * An ACK from beyond all that was passed counts at the next byte: what lies
	 * between may be taken, and the socket's SND.WL1 must not get ahead.
	 */
	v->seq = ledger_strip(&c->rx, seq_gt(s->seq, c->rx_hole) ? c->rx_hole : s->seq);
	v->len = len;
	if (conn_ack_old(c, s)) {
		v->ack = c->tx_kuna;
		v->wnd = c->tx_rawwnd;
		return RX_PASS;
	}
	v->ack = ledger_strip(&c->tx, s->ack);
	v->wnd = conn_kernel_window(c, s->wnd);
	if (s->flags & TH_RST) /* the socket takes neither from it */
		return RX_PASS;
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
	c->last_ms = now_ms;
	if (conn_ack_old(c, s)) /* says nothing, and must not look as if it said twice what was passed last */
		return true;
	kack = ledger_strip(&c->tx, s->ack);
	if (kack != c->tx_kuna || kack != c->tx_knxt || (c->flags & CONN_PROBE))
		return false;
	if (s->wnd < c->tx_rawwnd / 2 || s->wnd / 2 > c->tx_rawwnd)
		return false;
	/* with a window of so few segments the socket may be waiting for any change */
	return s->wnd == c->tx_rawwnd || (s->wnd > small && c->tx_rawwnd > small);
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

#endif
