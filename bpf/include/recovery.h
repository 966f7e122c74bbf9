/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * recovery.h - what a pod's acknowledgements tell of losses among the requests that
 * the programs inserted (RFC 5681 section 3.2, NewReno: RFC 6582). No kernel
 * context: compiles natively. The local socket does the same for its own bytes.
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
