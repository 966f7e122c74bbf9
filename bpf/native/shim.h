/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * shim.h - the functions of the context-free headers as a table, so that the
 * same Go test drives the real ones and deliberately broken copies of them.
 */
#ifndef EPROXY_SHIM_H
#define EPROXY_SHIM_H

#include "../pure/conn.h"
#include "../pure/http.h"
#include "../pure/ids.h"
#include "../pure/sack.h"
#include "../pure/mqtt.h"
#include "../pure/properties.h"
#include "../pure/line.h"
#include "../pure/recovery.h"
#include "../pure/trace_filter.h"

/* Arguments and results of shim_line. */
struct shim_line_args {
	__u64 name;
	__u32 queue;
	__u32 family;
	__u32 line; /* its number */
	__u32 n;    /* number of a message */
	__u32 ms;
	__u32 flag;
};

struct shim {
	int (*rx)(struct conn *c, const struct segment *s, struct rx_verdict *v, __u32 now_ms);
	__u32 (*front)(struct conn *c, const struct segment *s);
	int (*caught_up)(struct conn *c);
	void (*seed)(struct conn *c, __u32 rcv_nxt, __u32 queued);
	int (*next)(const struct conn *c, __u32 seq);
	int (*follow)(struct conn *c, __u32 have);
	int (*boundary)(struct conn *c, __u32 at);
	__u32 (*dups)(struct conn *c);
	void (*compact)(struct conn *c);
	int (*quoted)(struct conn *c, __u32 seq, __u32 *kernel);
	int (*absorb)(struct conn *c, const struct segment *s, struct rx_verdict *v, __u32 now_ms);
	void (*tx)(struct conn *c, const struct segment *s, const __u8 *payload, struct tx_verdict *v, __u32 now_ms);
	void (*stamp)(struct conn *c, struct stamp *s);
	int (*rx_full)(struct conn *c, __u32 limit);
	int (*can_insert)(struct conn *c, __u32 len);
	__u32 (*insert)(struct conn *c, __u32 len, __u32 now_ms);
	int (*uninsert)(struct conn *c, __u32 seq, __u32 len);
	int (*done)(struct conn *c, __u32 slot, __u32 seq);
	void (*taken)(struct conn *c, __u32 slot, __u32 state);
	void (*responses)(const __u8 *b, __u32 len, struct responses *a, struct http *h);
	int (*recovery_ack)(struct recovery *r, const struct conn *c, const struct segment *s);
	void (*recovery_measure)(struct recovery *r, struct conn *c, __s32 ms, int bare);
	__u32 (*recovery_due)(const struct recovery *r, const struct conn *c, __u32 sent_ms);
	void (*recovery_expire)(struct recovery *r, const struct conn *c);
	int (*recovery_missing)(const struct conn *c, __u32 sent_ms, __u32 now_ms);
	int (*recovery_far)(const struct conn *c);
	void (*sack)(struct conn *c, struct sack *k, bool received, __u32 kack, __u32 ack);
	int (*loss)(struct conn *c, const struct segment *s, struct sack *k, struct pubacks *p, __u32 now_ms);
	__u32 (*overdue)(struct conn *c, struct pubacks *p, __u32 more, __u32 now_ms);
	int (*filter)(const struct tracing *t, const __u8 *buf, __u32 len, struct publish *p);
	__u32 (*ids)(struct ids *ids, struct id_table *t, __u32 op, __u32 arg);
	__u32 (*park)(struct parking *p, struct queue *q, __u32 op, __u32 client, __u32 n, __u32 ms);
	__u32 (*line)(struct parking *p, struct queue *q, __u32 op, struct shim_line_args *a);
};

/* What is done with packet identifiers; the argument is one, or a hold. */
enum shim_ids {
	SHIM_IDS_ROOM,
	SHIM_IDS_KNOWN,
	SHIM_IDS_ENTER,
	SHIM_IDS_HELD,
	SHIM_IDS_RELEASE,
	SHIM_IDS_TABLE,
};

static __u32 shim_ids(struct ids *ids, struct id_table *t, __u32 op, __u32 arg)
{
	switch (op) {
	case SHIM_IDS_ROOM:
		return ids_room(ids, t, arg);
	case SHIM_IDS_KNOWN:
		return ids_find(ids, t, arg) != IDS_NONE;
	case SHIM_IDS_ENTER:
		return ids_hold(ids, t, arg);
	case SHIM_IDS_HELD:
		return ids_held(ids, t, arg);
	case SHIM_IDS_RELEASE:
		return ids_release(ids, t, arg);
	case SHIM_IDS_TABLE:
		return ids_take_table(ids, t);
	}
	return 0;
}

/* What is done with messages that wait; n and ms where they are needed. */
enum shim_park {
	SHIM_PARK_ADMIT,
	SHIM_PARK_CANCEL,
	SHIM_PARK_PUSH,
	SHIM_PARK_POP,
	SHIM_PARK_BACK,
	SHIM_PARK_FREE,
	SHIM_PARK_OLD,
	SHIM_PARK_HAND,
};

/* What is done with lines. */
enum shim_line {
	SHIM_LINE_ADMIT,
	SHIM_LINE_CANCEL,
	SHIM_LINE_PUSH,
	SHIM_LINE_BACK,
	SHIM_LINE_ANSWERED,
	SHIM_LINE_TAKE_OVER,
	SHIM_LINE_HOLD,
	SHIM_LINE_WATCH,
	SHIM_LINE_RELEASE,
	SHIM_LINE_PLACED,
	SHIM_LINE_TAKE,
};

static __u32 shim_line(struct parking *p, struct queue *q, __u32 op, struct shim_line_args *a)
{
	bool flag = false;
	__u32 n = 0;
	__u64 id;

	switch (op) {
	case SHIM_LINE_ADMIT:
		n = line_admit(p, q, a->queue, a->family, a->name, &a->line, &id);
		break;
	case SHIM_LINE_CANCEL:
		n = line_cancel(p, q, a->line, a->n);
		break;
	case SHIM_LINE_PUSH:
		line_push(p, q, a->line, a->n, a->ms);
		break;
	case SHIM_LINE_BACK:
		line_push_back(p, q, a->line, a->n);
		break;
	case SHIM_LINE_ANSWERED:
		n = line_answered(p, q, a->line);
		break;
	case SHIM_LINE_PLACED:
		n = line_placed(p, q, a->line);
		break;
	case SHIM_LINE_TAKE: /* as queue.bpf.c does; line is the list */
		n = parking_old(p, q, a->line, a->ms) ? parking_pop(p, q, a->line, true) : PARK_NONE;
		break;
	case SHIM_LINE_TAKE_OVER:
		line_hand(p, a->line);
		break;
	case SHIM_LINE_HOLD:
		n = line_hold(p, a->name, &flag);
		break;
	case SHIM_LINE_WATCH:
		n = line_watch(p, a->name, &flag);
		break;
	case SHIM_LINE_RELEASE:
		n = line_release(p, park_client(p, a->line)->queue == NO_INDEX ? NULL : q, a->line);
		break;
	}
	a->flag = flag;
	return n;
}

static __u32 shim_park(struct parking *p, struct queue *q, __u32 op, __u32 client, __u32 n, __u32 ms)
{
	__u64 id;

	switch (op) {
	case SHIM_PARK_ADMIT:
		return parking_admit(p, q, client, &id);
	case SHIM_PARK_CANCEL:
		parking_cancel(p, q, n);
		return 0;
	case SHIM_PARK_PUSH:
		parking_push(p, q, client, n, ms);
		return 0;
	case SHIM_PARK_POP:
		return parking_pop(p, q, park_family(client), false);
	case SHIM_PARK_HAND:
		return parking_pop(p, q, client, true);
	case SHIM_PARK_BACK:
		parking_push_back(p, q, client, n);
		return 0;
	case SHIM_PARK_FREE:
		parking_free(p, n);
		return 0;
	case SHIM_PARK_OLD:
		return parking_old(p, q, park_family(client), ms);
	}
	return 0;
}

static int shim_rx(struct conn *c, const struct segment *s, struct rx_verdict *v, __u32 now_ms)
{
	/* as take.h does, and tc_pod_in */
	if (s->remove && c->kind == CONN_DEVICE) {
		memset(v, 0, sizeof(*v));
		return conn_take(c, s, v, now_ms) ? RX_REMOVE : RX_DROP;
	}
	return conn_rx(c, s, v, now_ms);
}

static __u32 shim_front(struct conn *c, const struct segment *s)
{
	return conn_front(c, s);
}

static int shim_caught_up(struct conn *c)
{
	return conn_caught_up(c);
}

static void shim_seed(struct conn *c, __u32 rcv_nxt, __u32 queued)
{
	conn_seed(c, rcv_nxt, queued);
}

static int shim_next(const struct conn *c, __u32 seq)
{
	return conn_next(c, seq);
}

static int shim_follow(struct conn *c, __u32 have)
{
	return conn_follow(c, have);
}

static int shim_boundary(struct conn *c, __u32 at)
{
	return conn_boundary(c, at);
}

static __u32 shim_dups(struct conn *c)
{
	return conn_dups(c);
}

static void shim_compact(struct conn *c)
{
	ledger_compact(&c->rx);
}

static int shim_quoted(struct conn *c, __u32 seq, __u32 *kernel)
{
	return conn_quoted(c, seq, kernel);
}

static int shim_absorb(struct conn *c, const struct segment *s, struct rx_verdict *v, __u32 now_ms)
{
	return conn_absorb(c, s, v, now_ms);
}

/* As the hooks do: bodies are skipped at once, heads go byte by byte. */
static void shim_framing(struct framing *w, const __u8 *b, __u32 len)
{
	__u32 i = 0;

	while (i < len && !w->bad) {
		if (w->left) {
			__u32 n = len - i < w->left ? len - i : w->left;

			w->left -= n;
			i += n;
			continue;
		}
		framing_head_byte(w, b[i++]);
	}
}

/* As tc_device_out does. */
static void shim_tx(struct conn *c, const struct segment *s, const __u8 *payload, struct tx_verdict *v, __u32 now_ms)
{
	struct framing w = c->tx_framing;
	__u32 front = s->len;

	if (c->kind == CONN_DEVICE) {
		front = conn_framed(c, s);
		shim_framing(&w, payload + front, s->len - front);
	}
	conn_tx(c, s, v, now_ms);
	if (!v->cut)
		conn_frame_to(c, s, front, &w);
}

static void shim_stamp(struct conn *c, struct stamp *s)
{
	conn_stamp(c, s);
}

static int shim_rx_full(struct conn *c, __u32 limit)
{
	return ledger_full(&c->rx, limit);
}

static int shim_can_insert(struct conn *c, __u32 len)
{
	return conn_can_insert(c, len);
}

static __u32 shim_insert(struct conn *c, __u32 len, __u32 now_ms)
{
	return conn_insert(c, len, now_ms)->seq;
}

static int shim_uninsert(struct conn *c, __u32 seq, __u32 len)
{
	return conn_uninsert(c, seq, len);
}

static int shim_done(struct conn *c, __u32 slot, __u32 seq)
{
	return conn_done(c, slot, seq);
}

/* What a hook does after RX_REMOVE: it names who answers for the youngest graft. */
static void shim_taken(struct conn *c, __u32 slot, __u32 state)
{
	struct graft *g = ledger_at(&c->rx, c->rx.count - 1);

	g->who = slot;
	if (state == GRAFT_DONE)
		ledger_done(&c->rx, g);
}

/*
 * As tc_pod_in does with a segment of len bytes, on a slot where no response has
 * begun. What lies behind the bytes in hand completes a line and a head.
 */
static void shim_responses(const __u8 *b, __u32 len, struct responses *a, struct http *h)
{
	__u8 buf[HTTP_LOOK + 16];

	memset(a, 0, sizeof(*a));
	a->end = len;
	for (;;) {
		__u32 at = responses_at(a), want = responses_want(a), n = a->end - at;

		if (at >= a->end)
			return;
		if (n > want)
			n = want;
		memcpy(buf, b + at, n);
		for (__u32 i = n; i < sizeof(buf); i++)
			buf[i] = i && buf[i - 1] == '\r' ? '\n' : '\r';
		if (responses_step(a, h, buf, n))
			return;
	}
}

static int shim_recovery_ack(struct recovery *r, const struct conn *c, const struct segment *s)
{
	return recovery_ack(r, c, s);
}

static void shim_recovery_measure(struct recovery *r, struct conn *c, __s32 ms, int bare)
{
	recovery_measure(r, c, ms, bare);
}

static __u32 shim_recovery_due(const struct recovery *r, const struct conn *c, __u32 sent_ms)
{
	return recovery_due(r, c, sent_ms);
}

static void shim_recovery_expire(struct recovery *r, const struct conn *c)
{
	recovery_expire(r, c);
}

static int shim_recovery_missing(const struct conn *c, __u32 sent_ms, __u32 now_ms)
{
	return recovery_missing(c, sent_ms, now_ms);
}

static int shim_recovery_far(const struct conn *c)
{
	return recovery_far(c);
}

/*
 * As the hooks do with the options of a segment of the peer (received) or of the
 * local socket, which are in k->before; kack and ack as for sack_to_wire.
 */
static void shim_sack(struct conn *c, struct sack *k, bool received, __u32 kack, __u32 ack)
{
	memcpy(k->bytes, k->before, sizeof(k->bytes));
	for (__u32 i = 0; i < k->len && !sack_scan(k, i);)
		i++;
	if (!k->came)
		return;
	sack_read(k);
	if (received) {
		sack_admit(k, c, ack);
		for (__u32 i = 0; !sack_strip(k, i);)
			i++;
		sack_keep(k, ack);
	} else {
		sack_to_wire(k, c, kack, ack);
	}
	for (__u32 i = 0; !sack_write(k, i);)
		i++;
}

/*
 * As tc_device_in does before the ledger hears of a segment without payload, whose options
 * are in k->before. Returns whether PUBACKs may be missing; those to be sent again are in p.
 */
static int shim_loss(struct conn *c, const struct segment *s, struct sack *k, struct pubacks *p, __u32 now_ms)
{
	bool shown = false;

	p->len = 0;
	for (__u32 i = 0; i < k->len && !sack_scan(k, i);)
		i++;
	if (!k->came && !loss_is_duplicate(c, s->ack, s->wnd))
		return false;
	sack_read(k);
	if (!conn_ack_ok(c, s))
		return false;
	if (k->came) {
		sack_admit(k, c, s->ack);
		for (__u32 i = 0; !sack_strip(k, i);)
			i++;
		sack_keep(k, s->ack);
		shown = k->top != k->una;
	} else if (!s->len && s->flags == TH_ACK) {
		shown = loss_duplicate(c, k);
	}
	if (!shown)
		return false;
	if (k->came)
		loss_blocks(c, k);
	loss_collect(c, k, s->ack, now_ms, p);
	return true;
}

static __u32 shim_overdue(struct conn *c, struct pubacks *p, __u32 more, __u32 now_ms)
{
	return loss_overdue(c, now_ms, more, p);
}

/* As trace_left does: buf has MQTT_LOOK bytes, of which the first len are there. */
static int shim_filter(const struct tracing *t, const __u8 *buf, __u32 len, struct publish *p)
{
	bool cut = publish_topic(buf, len, p);
	__u32 at;

	return filter_matches(t, buf, p, cut, &at);
}

static const struct shim shim_table = {
	.rx = shim_rx,
	.front = shim_front,
	.caught_up = shim_caught_up,
	.seed = shim_seed,
	.next = shim_next,
	.follow = shim_follow,
	.boundary = shim_boundary,
	.dups = shim_dups,
	.compact = shim_compact,
	.quoted = shim_quoted,
	.absorb = shim_absorb,
	.tx = shim_tx,
	.stamp = shim_stamp,
	.rx_full = shim_rx_full,
	.can_insert = shim_can_insert,
	.insert = shim_insert,
	.uninsert = shim_uninsert,
	.done = shim_done,
	.taken = shim_taken,
	.responses = shim_responses,
	.recovery_ack = shim_recovery_ack,
	.recovery_measure = shim_recovery_measure,
	.recovery_due = shim_recovery_due,
	.recovery_expire = shim_recovery_expire,
	.recovery_missing = shim_recovery_missing,
	.recovery_far = shim_recovery_far,
	.sack = shim_sack,
	.loss = shim_loss,
	.overdue = shim_overdue,
	.filter = shim_filter,
	.ids = shim_ids,
	.park = shim_park,
	.line = shim_line,
};

#endif
