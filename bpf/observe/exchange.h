/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * exchange.h - pairs requests with responses and counts them.
 *
 * The two directions of a connection are read by two programs at the same time.
 * What both change is one word: how many requests were seen, how many answered,
 * and whether the connection is still followed. It changes by atomic additions
 * only, and whoever sets CONN_LOST learns exactly how many were in flight then,
 * so that these are taken out of what is in flight once, whatever happens.
 */
#ifndef EPROXY_OBSERVE_EXCHANGE_H
#define EPROXY_OBSERVE_EXCHANGE_H

#include "http1.h"
#include "maps.h"

/*
 * What is known of a request in flight, in the lowest bits of observe_conn.started:
 * the kind of its method, its mark, and that it is over. The last two are set by
 * different programs: whoever comes second sees what the other one has set.
 */
#define ASKED_BODILESS	 1ull
#define ASKED_TUNNEL	 2ull
#define ASKED_MARK_SHIFT 2
#define ASKED_MARK	 (3ull << ASKED_MARK_SHIFT)
#define ASKED_OVER	 16ull
#define ASKED_KIND	 31ull

/* What a word of observe_flight gets for a request that begins at that time, and for one that is over then. */
static __always_inline __u64 flight_begun(__u64 ns)
{
	return 1 - (ns >> OBSERVE_UNIT << OBSERVE_NOW);
}

static __always_inline __u64 flight_over(__u64 ns)
{
	return -flight_begun(ns);
}

/* One more request is in flight to a pod since then. */
static __always_inline void flight_add(__u32 pod, struct observe_counts *o, __u64 since_ns)
{
	struct observe_flight *f = bpf_map_lookup_elem(&observed_flight, &pod);
	__u64 now;

	if (!f)
		return;
	now = (__sync_fetch_and_add(&f->all, flight_begun(since_ns)) + 1) & ((1 << OBSERVE_NOW) - 1);
	if (now > o->peak)
		o->peak = now;
}

/* The requests of a pod that are over at a time. */
struct flight_end {
	__u32 n;
	__u32 probes; /* of those, of MARK_PROBE */
	__u32 proxied;
};

static __always_inline void flight_end(__u32 pod, const struct flight_end *e, __u64 now_ns)
{
	struct observe_flight *f = bpf_map_lookup_elem(&observed_flight, &pod);
	__u64 over = flight_over(now_ns);

	if (!f)
		return;
	__sync_fetch_and_add(&f->all, e->n * over);
	if (e->probes)
		__sync_fetch_and_add(&f->marked[MARK_PROBE - 1], e->probes * over);
	if (e->proxied)
		__sync_fetch_and_add(&f->marked[MARK_PROXIED - 1], e->proxied * over);
}

/* A request that is in flight since then has a mark. */
static __always_inline void flight_mark(__u32 pod, struct observe_counts *o, __u32 mark, __u64 since_ns)
{
	struct observe_flight *f = bpf_map_lookup_elem(&observed_flight, &pod);

	if (!f)
		return;
	if (mark == MARK_PROBE) {
		o->marked[MARK_PROBE - 1]++;
		__sync_fetch_and_add(&f->marked[MARK_PROBE - 1], flight_begun(since_ns));
	} else {
		o->marked[MARK_PROXIED - 1]++;
		__sync_fetch_and_add(&f->marked[MARK_PROXIED - 1], flight_begun(since_ns));
	}
}

/* The request whose entry of started this is is over. Returns its mark. */
static __always_inline __u32 asked_over(__u64 *started)
{
	return (__sync_fetch_and_or(started, ASKED_OVER) & ASKED_MARK) >> ASKED_MARK_SHIFT;
}

/*
 * n requests of a connection, the oldest of them this one, are over. Returns how many
 * had MARK_PROBE and, 16 bits higher, MARK_PROXIED. A function of its own, so that
 * the verifier follows the loop once.
 */
__attribute__((noinline)) int conn_marks(struct observe_conn *c, __u32 oldest, __u32 n)
{
	__u32 found = 0, mark;

	if (!c)
		return 0;
	for (__u32 i = 0; i < OBSERVE_ASKED; i++) {
		if (i >= n)
			break;
		mark = asked_over(&c->started[(oldest + i) & (OBSERVE_ASKED - 1)]);
		if (mark == MARK_PROBE)
			found++;
		else if (mark == MARK_PROXIED)
			found += 1 << 16;
	}
	return found;
}

/* Counts a duration. */
static __always_inline void histogram_add(__u64 *buckets, __u64 *sum, __u64 ns)
{
	__u32 n = observe_bucket(ns);

	*sum += ns;
	opaque(n);
	if (n < OBSERVE_BUCKETS)
		buckets[n]++;
}

/* The connection is followed no more. Returns how many requests were in flight; 0 also if it was so before. */
static __always_inline __u32 conn_stop(struct observe_conn *c, bool *first, __u64 now_ns)
{
	__u64 word = __sync_fetch_and_or(&c->word, CONN_LOST);
	struct flight_end e = {};
	__u32 marks;

	*first = !(word & CONN_LOST);
	if (!*first)
		return 0;
	e.n = conn_awaited(word);
	if (!e.n)
		return 0;
	marks = conn_marks(c, conn_answered(word), e.n);
	e.probes = marks & 0xffff;
	e.proxied = marks >> 16;
	flight_end(c->pod, &e, now_ns);
	return e.n;
}

/* It cannot be followed any more: what was in flight is unknown from now on. */
static __always_inline void conn_lose(struct observe_conn *c, struct observe_counts *o, enum observe_why why,
				      __u64 now_ns)
{
	bool first;

	o->unknown += conn_stop(c, &first, now_ns);
	if (first)
		o->unfollowed[why]++;
}

/* It is over: what was in flight will not be answered. */
static __always_inline void conn_over(struct observe_conn *c, struct observe_counts *o, __u64 now_ns)
{
	bool first;

	o->unanswered += conn_stop(c, &first, now_ns);
}

/* It was found out what the connection carries; only HTTP/1 is followed. */
static __always_inline void conn_carries(struct observe_conn *c, struct observe_counts *o,
					 enum observe_protocol protocol, __u64 now_ns)
{
	if (c->protocol != protocol)
		o->protocols[protocol]++;
	c->protocol = protocol;
	if (protocol != PROTOCOL_HTTP1)
		conn_over(c, o, now_ns);
}

/* A request's first line was seen. */
static __always_inline void exchange_asked(struct observe_conn *c, struct observe_counts *o, __u64 now_ns)
{
	__u64 word = *(volatile __u64 *)&c->word;
	struct stream *s = &c->request;

	if (c->protocol == PROTOCOL_UNKNOWN)
		conn_carries(c, o, PROTOCOL_HTTP1, now_ns);
	if (conn_awaited(word) >= OBSERVE_ASKED) {
		conn_lose(c, o, WHY_DEPTH, now_ns);
		return;
	}
	c->started[conn_asked(word) & (OBSERVE_ASKED - 1)] =
		(s->began_ns & ~ASKED_KIND) | (s->bodiless ? ASKED_BODILESS : 0) | (s->tunnel ? ASKED_TUNNEL : 0);
	if (__sync_fetch_and_add(&c->word, 1ull << 32) & CONN_LOST)
		return;
	o->requests++;
	flight_add(c->pod, o, s->began_ns);
}

/* A field says something of the latest request. The first such field counts. */
static __always_inline void exchange_marked(struct observe_conn *c, struct observe_counts *o, __u32 mark)
{
	__u64 word = *(volatile __u64 *)&c->word, *started, old;

	if ((word & CONN_LOST) || !conn_awaited(word)) /* answered before its head was whole */
		return;
	started = &c->started[(conn_asked(word) - 1) & (OBSERVE_ASKED - 1)];
	if (*(volatile __u64 *)started & ASKED_MARK)
		return;
	old = __sync_fetch_and_or(started, (__u64)mark << ASKED_MARK_SHIFT);
	if (!(old & ASKED_OVER))
		flight_mark(c->pod, o, mark, old);
}

/* When the oldest request in flight began, with the kind of its method. Returns false if there is none. */
static __always_inline bool exchange_oldest(struct observe_conn *c, __u64 *started)
{
	__u64 word = *(volatile __u64 *)&c->word;

	*started = c->started[conn_answered(word) & (OBSERVE_ASKED - 1)];
	return conn_awaited(word) > 0;
}

/* A final response to the oldest request is whole. */
static __always_inline void exchange_answered(struct observe_conn *c, struct observe_counts *o, bool timed,
					      __u64 now_ns)
{
	__u32 class = c->response.status / 100, mark;
	struct flight_end e = { .n = 1 };
	__u64 started, word;

	if (!exchange_oldest(c, &started)) {
		conn_lose(c, o, WHY_UNASKED, now_ns);
		return;
	}
	word = __sync_fetch_and_add(&c->word, 1);
	if (word & CONN_LOST)
		return;
	mark = asked_over(&c->started[conn_answered(word) & (OBSERVE_ASKED - 1)]);
	e.probes = mark == MARK_PROBE;
	e.proxied = mark == MARK_PROXIED;
	flight_end(c->pod, &e, now_ns);
	o->responses[class & (OBSERVE_CLASSES - 1)]++;
	if (timed)
		histogram_add(o->took, &o->took_ns, now_ns - (started & ~ASKED_KIND));
}

/*
 * A status line on a connection that the programs put requests into: when the
 * request was taken is in the slot, whose oldest requests are popped only by the
 * program behind this one. `ended` responses of this packet were before.
 */
static __always_inline void slot_begun(struct observe_conn *c, __u32 ended)
{
	struct slot *slot = chunk_entry(slots, struct slot, c->slot);
	__u32 head, number;

	c->slot_ns = 0;
	if (!slot || (slot->state != SLOT_BUSY && slot->state != SLOT_RESPONDING))
		return;
	head = slot->head;
	number = head + ended;
	if (slot->tail - head > ended)
		c->slot_ns = slot->messages[number & (PIPELINE_MAX - 1)].taken_ns;
}

/* The response to a request that the programs put in is whole: both are counted now. */
static __always_inline void slot_answered(struct observe_conn *c, struct observe_counts *o, __u64 now_ns)
{
	__u32 class = c->response.status / 100;
	__u64 took = c->slot_ns ? now_ns - c->slot_ns : 0;

	o->requests++;
	o->marked[MARK_OWN - 1]++;
	o->responses[class & (OBSERVE_CLASSES - 1)]++;
	if (!c->slot_ns || (__s64)took < 0) {
		o->untimed++;
	} else {
		histogram_add(o->took, &o->took_ns, took);
		o->own_ns += took;
	}
}

/* A status line was seen. */
static __always_inline void exchange_begun(struct observe_conn *c, struct observe_counts *o, __u32 ended, __u64 now_ns)
{
	struct stream *s = &c->response;
	__u64 started;

	if (c->slot != NO_INDEX) {
		if (c->protocol == PROTOCOL_UNKNOWN)
			conn_carries(c, o, PROTOCOL_HTTP1, now_ns);
		slot_begun(c, ended);
		if (c->slot_ns && s->status >= 200 && (__s64)(s->began_ns - c->slot_ns) >= 0)
			histogram_add(o->first, &o->first_ns, s->began_ns - c->slot_ns);
		return;
	}
	if (!exchange_oldest(c, &started)) {
		conn_lose(c, o, WHY_UNASKED, now_ns);
		return;
	}
	s->bodiless = (started & ASKED_BODILESS) != 0;
	s->tunnel = (started & ASKED_TUNNEL) != 0;
	if (s->status >= 200 && (__s64)(s->began_ns - (started & ~ASKED_KIND)) >= 0)
		histogram_add(o->first, &o->first_ns, s->began_ns - (started & ~ASKED_KIND));
}

#endif
