/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * recovery.h - what a pod's acknowledgements, and their absence, tell of losses among
 * the requests that the programs inserted (RFC 5681 section 3.2, NewReno: RFC 6582; the
 * timer: RFC 6298, RFC 8985 section 7). No kernel context: compiles natively. The local
 * socket does the same for its own bytes.
 */
#ifndef EPROXY_RECOVERY_H
#define EPROXY_RECOVERY_H

#include "conn.h"

/*
 * Whether what is in flight at the wire position seq has been sent again since it
 * was first: another sign of the same loss tells nothing new. While nothing of what
 * was in flight then still is, recover has no meaning.
 */
static __always_inline bool recovery_again(const struct recovery *r, const struct conn *c, __u32 seq)
{
	return r->known && r->recover - c->tx_una <= c->tx_nxt - c->tx_una && seq_lt(seq, r->recover);
}

/*
 * Bytes at the wire position seq, in flight, are known to be missing at the peer.
 * Whoever finds it out, from duplicate ACKs or from SACK blocks, asks here under the
 * lock, and sends them again if the result is true.
 */
static __always_inline bool recovery_begin(struct recovery *r, const struct conn *c, __u32 seq)
{
	if (recovery_again(r, c, seq))
		return false;
	r->recover = c->tx_nxt;
	r->known = 1;
	r->on = 1;
	return true;
}

/* Milliseconds that a pod may wait with an acknowledgement (Linux' TCP_DELACK_MIN), and sending may take. */
#define REQUEST_ACK_MS	   50
/* Milliseconds by which the timer and userspace may be late. */
#define REQUEST_LATE_MS	   10
/* Milliseconds of the timeout while no round trip was measured (RFC 6298 section 2.1). */
#define REQUEST_TIMEOUT_MS 1000
/* Milliseconds of a round trip from which on a pod is far: waiting for its acknowledgement would be felt by a device's TCP. */
#define FAR_MS		   5

/*
 * Whether a slot's pod is so far away that its acknowledgements do not hold back those to
 * devices: the slot's buffer and timer answer for its requests, as a socket's do.
 */
static __always_inline bool recovery_far(const struct conn *c)
{
	return c->rtt_low >= 16 * FAR_MS;
}

/* Milliseconds that a pod waits at least before it acknowledges what its function has not answered (Linux' TCP_DELACK_MIN). */
#define DELAYED_ACK_MS 40

/*
 * A round trip of a slot took ms milliseconds: RFC 6298 section 2, with alpha and beta as there. bare: the
 * acknowledgement had no payload. One with a response, or one that the pod has waited with, also took
 * what the function did: the pod is no farther away for that.
 */
static __always_inline void recovery_measure(struct recovery *r, struct conn *c, __s32 ms, bool bare)
{
	__u32 rtt, off;

	if (ms < 1) /* below the clock's resolution, or another processor's clock */
		ms = 1;
	if (ms > ROUND_TRIP_MAX)
		ms = ROUND_TRIP_MAX;
	rtt = ms;
	r->backoff = 0;
	if (!c->srtt) {
		c->srtt = 8 * rtt;
		c->rttvar = 2 * rtt;
		c->rtt_low = 16 * rtt;
		return;
	}
	if (16 * rtt < c->rtt_low)
		c->rtt_low = 16 * rtt;
	else if (bare && rtt < DELAYED_ACK_MS)
		c->rtt_low += rtt - c->rtt_low / 16;
	off = c->srtt / 8 < rtt ? rtt - c->srtt / 8 : c->srtt / 8 - rtt;
	c->rttvar = c->rttvar - c->rttvar / 4 + off;
	c->srtt = c->srtt - c->srtt / 8 + rtt;
}

/*
 * Milliseconds after which a request without acknowledgement is sent again: SRTT + 4 * RTTVAR (RFC
 * 6298 section 2.3), at least one and a half round trips, and what a clock is late by; of a pod
 * that is near also what it may wait with an acknowledgement, since that is most of what
 * it takes. Each time it passes in vain it doubles, until a round trip is measured again
 * (section 5). There is no least one of 200 ms, as Linux has, because nothing is slowed down
 * by a timeout that passes too early: the request comes twice, the pod's TCP drops one, and the
 * next round trips that are measured have in them what was waited for.
 */
static __always_inline __u32 recovery_timeout(const struct recovery *r, const struct conn *c)
{
	__u32 srtt = c->srtt / 8, more = srtt / 2 > c->rttvar ? srtt / 2 : c->rttvar;
	__u32 ms = srtt + more + (recovery_far(c) ? REQUEST_LATE_MS : REQUEST_ACK_MS);

	if (!c->srtt)
		ms = REQUEST_TIMEOUT_MS;
	ms <<= r->backoff < BACKOFF_MAX ? r->backoff : BACKOFF_MAX;
	return ms < ROUND_TRIP_MAX ? ms : ROUND_TRIP_MAX;
}

/* When the request that was last sent at sent_ms is due to be sent again, if nobody acknowledges it. */
static __always_inline __u32 recovery_due(const struct recovery *r, const struct conn *c, __u32 sent_ms)
{
	return sent_ms + recovery_timeout(r, c);
}

/*
 * Whether a request that was last sent at sent_ms may be missing: none can have been acknowledged that was
 * sent less than a round trip ago (RFC 8985 section 6.2 step 5).
 */
static __always_inline bool recovery_missing(const struct conn *c, __u32 sent_ms, __u32 now_ms)
{
	return (__s32)(now_ms - sent_ms) >= (__s32)(c->rtt_low / 16);
}

/*
 * The timeout of the oldest request in flight has passed: it is to be sent again, and
 * acknowledgements below what is in flight now show what else is missing. Under the lock.
 */
static __always_inline void recovery_expire(struct recovery *r, const struct conn *c)
{
	if (r->backoff < BACKOFF_MAX)
		r->backoff++;
	r->recover = c->tx_nxt;
	r->known = 1;
	r->on = 1;
	r->dup_acks = 0;
}

/* All that is in flight is being sent again, for another reason. */
static __always_inline void recovery_all(struct recovery *r, const struct conn *c)
{
	r->recover = c->tx_nxt;
	r->known = 1;
	r->on = 0;
}

/*
 * Accounts for a segment of the peer, before conn_rx does. Returns whether what it
 * acknowledges ends where bytes are missing: they are to be sent again. Under the
 * lock.
 */
static __always_inline bool recovery_ack(struct recovery *r, const struct conn *c, const struct segment *s)
{
	if ((s->flags & (TH_ACK | TH_SYN | TH_RST)) != TH_ACK || seq_lt(s->ack, c->tx_una) || seq_gt(s->ack, c->tx_nxt))
		return false;
	if (s->ack != c->tx_una) {
		r->dup_acks = 0;
		if (r->on && seq_lt(s->ack, r->recover))
			return true; /* a partial acknowledgement: the next hole (RFC 6582 section 3.2) */
		r->on = 0;
		return false;
	}
	/* a duplicate ACK by the definition of RFC 5681 section 2 */
	if (s->len || (s->flags & TH_FIN) || c->tx_una == c->tx_nxt ||
	    c->tx_wnd != (__u32)s->wnd << (c->tx_wscale & 15))
		return false;
	if (r->dup_acks < DUPLICATE_ACKS)
		r->dup_acks++;
	if (r->dup_acks < DUPLICATE_ACKS)
		return false;
	r->dup_acks = 0;
	return !r->on && recovery_begin(r, c, s->ack);
}

#endif
