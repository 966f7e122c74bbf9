/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * ledger.h - the only place that converts between wire and kernel sequence
 * numbers. No kernel context: compiles natively, tested against a model in
 * bpf/native.
 *
 * A ledger holds the grafts of one direction of one connection in stream
 * order. Received direction: bytes removed before the local socket sees them,
 * wire = kernel + removed before. Sent direction: bytes inserted behind the
 * local socket's back, wire = kernel + inserted before.
 */
#ifndef EPROXY_LEDGER_H
#define EPROXY_LEDGER_H

#include "seq.h"

/* From so many grafts on, neighbours that are done are merged. */
#define LEDGER_COMPACT (TURNS_MAX - 8)

/* The n-th oldest graft. */
static __always_inline struct graft *ledger_at(struct ledger *l, __u32 n)
{
	return &l->ring[(l->head + n) & (LEDGER_RING - 1)];
}

/* Whether no further graft has room, or `limit` are open. */
static __always_inline bool ledger_full(const struct ledger *l, __u32 limit)
{
	return l->open >= limit || l->count >= TURNS_MAX;
}

/*
 * Whether a graft is done and follows another that is: both may be one. Without branches, of
 * which the verifier would follow each in every turn of ledger_compact.
 */
static __always_inline bool ledger_joins(const struct graft *before, const struct graft *g)
{
	__u32 state = (g->state ^ GRAFT_DONE) | (before->state ^ GRAFT_DONE);
	__u32 gap = before->seq + before->len - g->seq;
	__u32 over = (before->len + g->len) & ~(__u32)GRAFT_MAX;

	return !(state | gap | over);
}

/*
 * Merges neighbouring grafts that are done, to make room in the ring: they
 * settle in order, so that none does behind one that is open or that the local
 * socket's acknowledgement has not reached.
 */
static __always_inline void ledger_compact(struct ledger *l)
{
	l->kept = 0;
	repeat(i, l->count) {
		struct graft *g = ledger_at(l, i), *to = ledger_at(l, afresh(l->kept));
		struct graft *last = ledger_at(l, (__u32)afresh(l->kept) - 1);

		if (afresh(l->kept) && ledger_joins(last, g)) {
			last->len += g->len;
			continue;
		}
		if (to != g)
			*to = *g;
		l->kept++;
	}
	l->count = l->kept;
}

/* Marks a graft as DONE: the bytes that it stands for may be acknowledged to the peer. */
static __always_inline void ledger_done(struct ledger *l, struct graft *g)
{
	if (g->state == GRAFT_OPEN)
		l->open--;
	g->state = GRAFT_DONE;
}

/* The youngest graft is done at once; it grows together with the one before, if nothing lies between and that is done. */
static __always_inline void ledger_removed(struct ledger *l)
{
	struct graft *g = ledger_at(l, (__u32)l->count - 1), *before = ledger_at(l, (__u32)l->count - 2);

	ledger_done(l, g);
	if (l->count >= 2 && ledger_joins(before, g)) {
		before->len += g->len;
		l->count--;
	}
}

/*
 * Wire to kernel: a received sequence number (rx ledger), or a received
 * acknowledgement (tx ledger). Positions inside a graft map to its start.
 */
static __always_inline __u32 ledger_strip(struct ledger *l, __u32 wire)
{
	__u32 k = wire - l->base;

	repeat(i, l->count) {
		struct graft *g;
		__u32 below;

		g = ledger_at(l, i);
		if (seq_le(wire, g->seq))
			break;
		below = wire - g->seq;
		k -= below < g->len ? below : g->len;
	}
	return k;
}

/*
 * The local socket's acknowledgement, as it may be sent to the peer: across
 * grafts that are done, never into one that is open.
 */
static __always_inline __u32 ledger_ack_to_wire(struct ledger *l, __u32 kack)
{
	__u32 w = kack + l->base;

	repeat(i, l->count) {
		struct graft *g;

		g = ledger_at(l, i);
		if (seq_lt(w, g->seq))
			break;
		if (g->state != GRAFT_DONE)
			return g->seq;
		w += g->len;
	}
	return w;
}

/*
 * The local socket's sequence number as the peer must see it. A position where
 * an insertion stands yields the place after it.
 */
static __always_inline __u32 ledger_tx_to_wire(struct ledger *l, __u32 kseq)
{
	__u32 w = kseq + l->base;

	repeat(i, l->count) {
		struct graft *g;

		g = ledger_at(l, i);
		if (seq_lt(w, g->seq))
			break;
		w += g->len;
	}
	return w;
}

/*
 * A range of bytes that the local socket has received, as the peer may be shown
 * it: it begins behind the grafts at its first byte, ends before those behind
 * its last one, and before the first inside it that is open.
 */
static __always_inline void ledger_range_to_wire(struct ledger *l, __u32 *from, __u32 *to)
{
	__u32 first = *from + l->base, last = *to - 1 + l->base;

	repeat(i, l->count) {
		struct graft *g;

		g = ledger_at(l, i);
		if (seq_lt(last, g->seq))
			break;
		if (seq_ge(first, g->seq)) {
			first += g->len;
		} else if (g->state != GRAFT_DONE) {
			last = g->seq - 1;
			break;
		}
		last += g->len;
	}
	*from = first;
	*to = last + 1;
}

/* Wire position of the first insertion strictly inside [wire, wire + len), else wire + len. */
static __always_inline __u32 ledger_straddle(struct ledger *l, __u32 wire, __u32 len)
{
	repeat(i, l->count) {
		struct graft *g;

		g = ledger_at(l, i);
		if (seq_gt(g->seq, wire) && seq_lt(g->seq, wire + len))
			return g->seq;
	}
	return wire + len;
}

/* Bytes of insertions at or above the wire position una. */
static __always_inline __u32 ledger_unacked(struct ledger *l, __u32 una)
{
	__u32 n = 0;

	repeat(i, l->count) {
		struct graft *g;

		g = ledger_at(l, i);
		if (seq_gt(g->seq + g->len, una))
			n += g->len;
	}
	return n;
}

/* A new youngest graft, open; the caller has checked that there is room. */
static __always_inline struct graft *ledger_push(struct ledger *l, __u32 seq, __u32 len)
{
	struct graft *g;

	if (!l->count)
		l->head = 0; /* stays in the cache line of the counters */
	g = ledger_at(l, l->count);
	l->count++;
	memset(g, 0, sizeof(*g));
	g->seq = seq;
	g->len = len;
	g->who = NO_INDEX;
	g->state = GRAFT_OPEN;
	l->open++;
	return g;
}

/* Removes the youngest graft: what it was for did not come about. */
static __always_inline void ledger_pop(struct ledger *l)
{
	if (!l->count)
		return;
	ledger_done(l, ledger_at(l, l->count - 1));
	l->count--;
}

/*
 * Moves into base what the peer can no longer refer to: everything below the
 * wire position `upto` (acknowledged by the peer, or to it) that is done.
 * Inserted grafts are done from the start.
 */
static __always_inline void ledger_settle(struct ledger *l, __u32 upto)
{
	repeat(i, TURNS_MAX) {
		struct graft *g;

		if (!l->count)
			break;
		g = ledger_at(l, 0);
		if (g->state != GRAFT_DONE || seq_gt(g->seq + g->len, upto))
			break;
		l->base += g->len;
		l->head = (l->head + 1) & (LEDGER_RING - 1);
		l->count--;
	}
}

/* The unsettled graft that contains the wire position, or NULL. */
static __always_inline struct graft *ledger_find(struct ledger *l, __u32 wire)
{
	repeat(i, l->count) {
		struct graft *g;

		g = ledger_at(l, i);
		if (seq_ge(wire, g->seq) && seq_lt(wire, g->seq + g->len))
			return g;
	}
	return NULL;
}

/* Wire position of the first graft that begins above `wire` and below `end`, else end. */
static __always_inline __u32 ledger_next(struct ledger *l, __u32 wire, __u32 end)
{
	return ledger_straddle(l, wire, end - wire);
}

#endif
