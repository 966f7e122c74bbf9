/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * loss.h - what the peer's acknowledgements say of what it was sent: how long a
 * round trip takes, whether it lacks bytes of the local socket, and which
 * inserted PUBACKs are to be sent again. No kernel context: compiles natively.
 * Everything here runs under the connection's lock.
 */
#ifndef EPROXY_LOSS_H
#define EPROXY_LOSS_H

#include "sack.h"

/* So many duplicate ACKs in a row mean a loss (RFC 5681 section 3.2); fewer may mean reordering. */
#define DUPLICATE_ACKS 3

#define ROUND_TRIP_MAX 60000 /* milliseconds; a longer one counts as so long */
#define PUBACKS_MAX    64    /* bytes of PUBACKs that one segment carries */
#define BACKOFF_MAX    5     /* how often the timeout of a PUBACK doubles */

/* PUBACKs that follow each other in the stream and are sent again in one segment. */
struct pubacks {
	__u32 seq; /* wire */
	__u32 len; /* bytes */
	__u32 sum; /* of them, 16-bit words in native order */
	__u8 bytes[PUBACKS_MAX];
};

#define PUBACK_TICK_MS	  4	/* unit of when a PUBACK was sent */
#define PUBACK_TIMEOUT_MS 60000 /* longest time after which one is sent again: less than half of what 16 bits hold */

/* A PUBACK with this packet identifier was inserted, and sent just now. */
static __always_inline void puback_sent(struct graft *g, __u16 id, __u32 now_ms)
{
	g->who = now_ms / PUBACK_TICK_MS << 16 | id;
}

static __always_inline __u16 puback_id(const struct graft *g)
{
	return g->who;
}

/* It was sent again. */
static __always_inline void puback_again(struct graft *g, __u32 now_ms)
{
	puback_sent(g, puback_id(g), now_ms);
	if (g->sent < 255)
		g->sent++;
}

/* Milliseconds since it was last sent, as exact as its unit; below 0 by another processor's clock. */
static __always_inline __s32 puback_age(const struct graft *g, __u32 now_ms)
{
	return (__s16)(now_ms / PUBACK_TICK_MS - (g->who >> 16)) * PUBACK_TICK_MS;
}

/* Its bytes, as they lie in memory [MQTT-3.4]. */
static __always_inline __u32 puback_word(const struct graft *g)
{
	return bpf_htonl(0x40020000 | puback_id(g));
}

/*
 * Before the ledger hears of an acknowledgement that is news: the time that the
 * oldest PUBACK took is a sample of the round trip (RFC 6298 section 2), unless
 * it was sent twice (section 3).
 */
static __always_inline void loss_round_trip(struct conn *c, __u32 ack, __u32 now_ms)
{
	const struct graft *g = ledger_at(&c->tx, 0);
	__s32 ms = puback_age(g, now_ms);

	if (!c->tx.count || c->kind != CONN_DEVICE || g->sent || seq_gt(g->seq + g->len, ack))
		return;
	if (ms < 1) /* below the clock's resolution, or another processor's clock */
		ms = 1;
	if (ms > ROUND_TRIP_MAX)
		ms = ROUND_TRIP_MAX;
	c->srtt = c->srtt ? c->srtt - c->srtt / 8 + (__u32)ms : 8 * (__u32)ms;
}

/*
 * Milliseconds after which a PUBACK without acknowledgement is sent again, `more`
 * of them for a delayed ACK; the time doubles (RFC 6298 section 5.5), up to a bound (section 2.5).
 */
static __always_inline __u32 loss_timeout(const struct conn *c, const struct graft *g, __u32 more)
{
	__u32 ms = (c->srtt / 4 + more) << (g->sent < BACKOFF_MAX ? g->sent : BACKOFF_MAX);

	return ms < PUBACK_TIMEOUT_MS ? ms : PUBACK_TIMEOUT_MS;
}

/* Whether the peer lacks bytes of the local socket, as far as it has shown. */
static __always_inline bool loss_of_socket(struct conn *c)
{
	if ((c->flags & CONN_MISSING) && !seq_lt(c->tx_una, c->tx_hole))
		c->flags &= ~CONN_MISSING;
	return c->flags & CONN_MISSING;
}

/* Whether the peer has shown that it has the graft. */
static __always_inline bool loss_covered(const struct sack *k, const struct graft *g)
{
	bool covered = false;

	for (int i = 0; i < SACK_BLOCKS; i++)
		covered |= seq_le(k->wire[i].from, g->seq) && seq_le(g->seq + g->len, k->wire[i].to);
	return covered;
}

/* The graft's bytes are collected as sent again now. */
static __always_inline void pubacks_add(struct pubacks *p, struct graft *g, __u32 now_ms)
{
	__u32 word = puback_word(g);

	memcpy(p->bytes + (afresh(p->len) & (PUBACKS_MAX - 4)), &word, 4);
	p->sum = (p->len ? p->sum : 0) + (word & 0xffff) + (word >> 16);
	p->len += 4;
	puback_again(g, now_ms);
}

/* What a segment's blocks show, which sack_keep has looked at, of the local socket's bytes. */
static __always_inline void loss_blocks(struct conn *c, const struct sack *k)
{
	c->flags &= ~CONN_MISSING;
	if ((__s32)k->lacking > 0) {
		c->flags |= CONN_MISSING;
		c->tx_hole = k->top;
	}
}

/*
 * The same of a bare ACK that acknowledges nothing new and says nothing else, of a
 * peer without SACK. If PUBACKs are missing, k is then as if blocks had shown it.
 */
static __always_inline bool loss_duplicate(struct conn *c, struct sack *k)
{
	if (c->dup_ack != c->tx_una) {
		c->dup_ack = c->tx_una;
		c->dup_acks = 0;
	}
	c->dup_acks++;
	if (c->dup_acks != DUPLICATE_ACKS)
		return false;
	if (c->tx.count && seq_le(ledger_at(&c->tx, 0)->seq, c->tx_una)) {
		memset(k->wire, 0, sizeof(k->wire));
		k->top = c->tx_nxt;
		return true;
	}
	c->flags |= CONN_MISSING;
	c->tx_hole = c->tx_nxt;
	return false;
}

/*
 * Collects PUBACKs that the peer lacks: the first that follow each other, neither
 * acknowledged (ack is the latest acknowledgement) nor under a block, and below
 * k->top. Each is sent at once, then again once per round trip. p is empty before.
 */
static __always_inline void loss_collect(struct conn *c, const struct sack *k, __u32 ack, __u32 now_ms,
					 struct pubacks *p)
{
	__u32 una = seq_gt(ack, c->tx_una) ? ack : c->tx_una;

	repeat(i, c->tx.count) {
		struct graft *g = ledger_at(&c->tx, i);
		bool wanted;

		wanted = seq_gt(g->seq + g->len, una) && !loss_covered(k, g) &&
			 (!g->sent || puback_age(g, now_ms) > (__s32)(c->srtt / 8));
		if (seq_ge(g->seq, k->top) || afresh(p->len) >= PUBACKS_MAX)
			break;
		if (afresh(p->len) && (!wanted || g->seq != p->seq + afresh(p->len)))
			break;
		if (!wanted)
			continue;
		if (!afresh(p->len))
			p->seq = g->seq;
		pubacks_add(p, g, now_ms);
	}
}

/* Whether a bare ACK may be one that loss_duplicate counts; a look without the lock is enough. */
static __always_inline bool loss_is_duplicate(const struct conn *c, __u32 ack, __u16 wnd)
{
	return !(c->flags & CONN_SACK) && ack == c->tx_una && ack != c->tx_nxt &&
	       (__u32)wnd << (c->tx_wscale & 15) == c->tx_wnd;
}

/*
 * Collects PUBACKs whose time is up, from the oldest on; more as in loss_timeout.
 * Those behind one that still has time have it, too. Returns when the oldest is due.
 */
static __always_inline __u32 loss_overdue(struct conn *c, __u32 now_ms, __u32 more, struct pubacks *p)
{
	const struct graft *oldest = ledger_at(&c->tx, 0);
	__u32 due_ms = now_ms - puback_age(oldest, now_ms) + loss_timeout(c, oldest, more);

	p->len = 0;
	repeat(i, c->tx.count) {
		struct graft *g = ledger_at(&c->tx, i);

		if (puback_age(g, now_ms) < (__s32)loss_timeout(c, g, more) || afresh(p->len) >= PUBACKS_MAX)
			break;
		if (!afresh(p->len))
			p->seq = g->seq;
		else if (g->seq != p->seq + afresh(p->len))
			break;
		pubacks_add(p, g, now_ms);
	}
	return due_ms;
}

#endif
