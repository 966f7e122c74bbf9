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

/* Kind of a request's method, in the lowest bits of observe_conn.started. */
#define ASKED_BODILESS 1ull
#define ASKED_TUNNEL   2ull
#define ASKED_KIND     3ull

/* More or fewer requests are in flight to a pod from now on; area is what else the integral grows by, ns times requests. */
static __always_inline void flight_change(__u32 pod, __s32 n, __u64 area, __u64 now_ns)
{
	struct observe_flight *f = bpf_map_lookup_elem(&observed_flight, &pod);

	if (!f)
		return;
	bpf_spin_lock(&f->lock);
	if ((__s64)(now_ns - f->since_ns) > 0) { /* another processor's clock may be ahead */
		f->integral += (now_ns - f->since_ns) * f->now;
		f->since_ns = now_ns;
	}
	f->integral += area;
	f->now += n;
	if (f->now > f->peak)
		f->peak = f->now;
	bpf_spin_unlock(&f->lock);
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
	__u32 n;

	*first = !(word & CONN_LOST);
	if (!*first)
		return 0;
	n = conn_awaited(word);
	if (n)
		flight_change(c->pod, -(__s32)n, 0, now_ns);
	return n;
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
	flight_change(c->pod, 1, 0, now_ns);
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
	__u32 class = c->response.status / 100;
	__u64 started;

	if (!exchange_oldest(c, &started)) {
		conn_lose(c, o, WHY_UNASKED, now_ns);
		return;
	}
	if (__sync_fetch_and_add(&c->word, 1) & CONN_LOST)
		return;
	flight_change(c->pod, -1, 0, now_ns);
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
	o->responses[class & (OBSERVE_CLASSES - 1)]++;
	if (!c->slot_ns || (__s64)took < 0) {
		o->untimed++;
		return;
	}
	histogram_add(o->took, &o->took_ns, took);
	flight_change(c->pod, 0, took, now_ns);
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
