/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * hole.h - where a received stream stands: the next expected byte, what was passed
 * beyond bytes that are missing, and how the two come together. No kernel context:
 * compiles natively. Everything here runs under the connection's lock.
 */
#ifndef EPROXY_HOLE_H
#define EPROXY_HOLE_H

#include "ledger.h"

/*
 * Whether bytes are missing that came before what was passed last. What lies
 * beyond them is the local socket's and has kernel positions already: nothing can be
 * taken before they have come.
 */
static __always_inline bool conn_hole(const struct conn *c)
{
	return c->rx_hole != c->rx_nxt;
}

/* Whether the message at this wire position may be taken. */
static __always_inline bool conn_next(const struct conn *c, __u32 seq)
{
	return seq == c->rx_nxt && !conn_hole(c);
}

/* All bytes below the wire position nxt have been passed or taken. */
static __always_inline void conn_advance(struct conn *c, __u32 nxt)
{
	c->rx_nxt = nxt;
	if (seq_gt(nxt, c->rx_hole))
		c->rx_hole = nxt;
	if ((c->flags & CONN_FIN_AHEAD) && seq_ge(nxt, c->rx_fin)) {
		c->flags &= ~CONN_FIN_AHEAD;
		c->flags |= CONN_FIN_SEEN;
	}
}

/*
 * The local socket has all bytes below this kernel position: those that were
 * passed beyond a hole are part of its stream since the hole is filled. Nobody has
 * followed their framing. Returns whether the position lies between the next
 * expected byte and rx_hole, which it does not if the books are wrong.
 */
static __always_inline bool conn_follow(struct conn *c, __u32 have)
{
	__u32 more = have - ledger_strip(&c->rx, c->rx_nxt);

	if (more > c->rx_hole - c->rx_nxt)
		return false;
	if (more) {
		conn_advance(c, c->rx_nxt + more);
		c->flags |= CONN_LOST;
	}
	return true;
}

/*
 * Bytes from the wire position seq to the right edge of the local socket's window;
 * below 0 beyond it. A socket may drop a segment whole that reaches across
 * (tcp_sequence, net/ipv4/tcp_input.c), and the peer's right edge may be rounded up.
 */
static __always_inline __s32 conn_room(struct conn *c, __u32 seq)
{
	return c->rx_kack + ((__u32)c->rx_rawwnd << (c->rx_wscale & 15)) - ledger_strip(&c->rx, seq);
}

/* Payload that ends at the wire position end was passed to the socket of an armed connection that is not seeded yet. */
static __always_inline void conn_passed(struct conn *c, __u32 end)
{
	if (!(c->flags & CONN_PASSED) || seq_gt(end, c->rx_hole))
		c->rx_hole = end;
	c->flags |= CONN_PASSED;
}

/*
 * The receive side of an armed connection begins: the local socket has everything below
 * rcv_nxt. It also has, in its out-of-order queue, what ends at `queued`, and was passed
 * what ends at rx_hole since it was armed; rx_edge is known. What the socket cannot
 * have taken, because it ends beyond its window, was forged.
 */
static __always_inline void conn_seed(struct conn *c, __u32 rcv_nxt, __u32 queued)
{
	__u32 passed = c->flags & CONN_PASSED ? c->rx_hole : rcv_nxt, most = c->rx_edge - rcv_nxt + 1; /* FIN */

	c->rx_nxt = rcv_nxt;
	c->rx_hole = rcv_nxt;
	if (seq_gt(queued, c->rx_hole) && queued - rcv_nxt <= most)
		c->rx_hole = queued;
	if (seq_gt(passed, c->rx_hole) && passed - rcv_nxt <= most)
		c->rx_hole = passed;
}

/*
 * The program that reads the local socket stands at this kernel position, between two
 * packets. Whether that is where the stream stands, so that what comes next is a
 * packet's beginning. Grafts do not matter: they are whole packets.
 */
static __always_inline bool conn_boundary(struct conn *c, __u32 at)
{
	return conn_follow(c, at) && !conn_hole(c);
}

#endif
