/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * calls.h - what Go calls: a table's functions, since cgo does not call through pointers, and those
 * for which the headers as they are in the source tree will do.
 */
#ifndef EPROXY_CALLS_H
#define EPROXY_CALLS_H

#include "shim.h"

static int call_rx(const struct shim *t, struct conn *c, const struct segment *s, struct rx_verdict *v, __u32 now)
{
	return t->rx(c, s, v, now);
}

static void call_tx(const struct shim *t, struct conn *c, const struct segment *s, const __u8 *payload,
		    struct tx_verdict *v, __u32 now)
{
	t->tx(c, s, payload, v, now);
}

static void call_stamp(const struct shim *t, struct conn *c, struct stamp *s)
{
	t->stamp(c, s);
}

static int call_rx_full(const struct shim *t, struct conn *c, __u32 limit)
{
	return t->rx_full(c, limit);
}

static int call_can_insert(const struct shim *t, struct conn *c, __u32 len)
{
	return t->can_insert(c, len);
}

static __u32 call_insert(const struct shim *t, struct conn *c, __u32 len, __u32 now)
{
	return t->insert(c, len, now);
}

static int call_uninsert(const struct shim *t, struct conn *c, __u32 seq, __u32 len)
{
	return t->uninsert(c, seq, len);
}

static __u32 call_front(const struct shim *t, struct conn *c, const struct segment *s)
{
	return t->front(c, s);
}

static void call_compact(const struct shim *t, struct conn *c)
{
	t->compact(c);
}

static int call_caught_up(const struct shim *t, struct conn *c)
{
	return t->caught_up(c);
}

static void call_seed(const struct shim *t, struct conn *c, __u32 nxt, __u32 queued)
{
	t->seed(c, nxt, queued);
}

static int call_next(const struct shim *t, const struct conn *c, __u32 seq)
{
	return t->next(c, seq);
}

static int call_follow(const struct shim *t, struct conn *c, __u32 have)
{
	return t->follow(c, have);
}

static int call_boundary(const struct shim *t, struct conn *c, __u32 at)
{
	return t->boundary(c, at);
}

static __u32 call_dups(const struct shim *t, struct conn *c)
{
	return t->dups(c);
}

static int call_quoted(const struct shim *t, struct conn *c, __u32 seq, __u32 *kernel)
{
	return t->quoted(c, seq, kernel);
}

static int call_absorb(const struct shim *t, struct conn *c, const struct segment *s, struct rx_verdict *v, __u32 now)
{
	return t->absorb(c, s, v, now);
}

static int call_done(const struct shim *t, struct conn *c, __u32 slot, __u32 seq)
{
	return t->done(c, slot, seq);
}

static void call_taken(const struct shim *t, struct conn *c, __u32 slot, __u32 state)
{
	t->taken(c, slot, state);
}

static void call_responses(const struct shim *t, const __u8 *b, __u32 len, struct responses *a, struct http *h)
{
	t->responses(b, len, a, h);
}

static int call_recovery_ack(const struct shim *t, struct recovery *r, const struct conn *c, const struct segment *s)
{
	return t->recovery_ack(r, c, s);
}

static void call_recovery_measure(const struct shim *t, struct recovery *r, struct conn *c, __s32 ms, int bare)
{
	t->recovery_measure(r, c, ms, bare);
}

static __u32 call_recovery_due(const struct shim *t, const struct recovery *r, const struct conn *c, __u32 sent)
{
	return t->recovery_due(r, c, sent);
}

static void call_recovery_expire(const struct shim *t, struct recovery *r, const struct conn *c)
{
	t->recovery_expire(r, c);
}

static int call_recovery_missing(const struct shim *t, const struct conn *c, __u32 sent, __u32 now)
{
	return t->recovery_missing(c, sent, now);
}

static int call_recovery_far(const struct shim *t, const struct conn *c)
{
	return t->recovery_far(c);
}

static void call_sack(const struct shim *t, struct conn *c, struct sack *k, int received, __u32 kack, __u32 ack)
{
	t->sack(c, k, received, kack, ack);
}

static int call_loss(const struct shim *t, struct conn *c, const struct segment *s, struct sack *k, struct pubacks *p,
		     __u32 now)
{
	return t->loss(c, s, k, p, now);
}

static __u32 call_overdue(const struct shim *t, struct conn *c, struct pubacks *p, __u32 more, __u32 now)
{
	return t->overdue(c, p, more, now);
}

static int call_filter(const struct shim *t, const struct tracing *f, const __u8 *buf, __u32 len, struct publish *p)
{
	return t->filter(f, buf, len, p);
}

static __u32 call_ids(const struct shim *t, struct ids *ids, struct id_table *table, __u32 op, __u32 arg)
{
	return t->ids(ids, table, op, arg);
}

static __u32 call_park(const struct shim *t, struct parking *p, struct queue *q, __u32 op, __u32 client, __u32 n,
		       __u32 ms)
{
	return t->park(p, q, op, client, n, ms);
}

static __u32 call_line(const struct shim *t, struct parking *p, struct queue *q, __u32 op, struct shim_line_args *a)
{
	return t->line(p, q, op, a);
}

static int call_publish(const __u8 *buf, __u32 len, __u32 version, struct publish *p)
{
	return mqtt_publish(buf, len, version, p);
}

/* As the hooks do: the whole name, then no sequence left open. */
static int call_topic_ok(const __u8 *b, __u32 len)
{
	struct utf8 u = {};

	for (__u32 i = 0; i < len; i++)
		if (!utf8_step(&u, b[i]))
			return 0;
	return !u.want;
}

static int call_properties(const __u8 *raw, __u32 len, struct properties *q)
{
	return properties_scan(raw, len, q);
}

static int call_token(__u8 b)
{
	return token_byte(b);
}

/* As the request's writer does: word by word. */
static int call_plain(const __u8 *b, __u32 len)
{
	for (__u32 i = 0; i < len; i += 8) {
		__u64 w = 0;

		memcpy(&w, b + i, len - i < 8 ? len - i : 8);
		if (!text_plain(w, len - i < 8 ? len - i : 8))
			return 0;
	}
	return 1;
}

static void call_framing(struct framing *w, const __u8 *b, __u32 len)
{
	shim_framing(w, b, len);
}

static int call_goes_on(__u8 first)
{
	return framing_goes_on(first);
}

static int call_at_boundary(const struct framing *w)
{
	return framing_at_boundary(w);
}

#endif
