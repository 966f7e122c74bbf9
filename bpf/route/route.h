/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * route.h - where a message goes, and whether its client may publish there: found by its topic, or
 * remembered from the connection's last message.
 */
#ifndef EPROXY_ROUTE_ROUTE_H
#define EPROXY_ROUTE_ROUTE_H

#include "topic.h"

/*
 * Finds where a message of this topic goes, if the client may publish to it. On success
 * s->routed.counter, s->routed.function and the subject are set.
 */
static __always_inline enum reason route_find(struct scratch *s, const struct device *d, __u32 conn)
{
	struct globals *g = globals_get();
	struct function *fn;
	enum reason reason;
	struct route *r;
	__u32 route, at, len;

	if (!g)
		return REASON_NO_ROUTE;
	s->routed.subject_len = 0;
	reason = route_match(s, s->look[s->publish.topic & (MQTT_LOOK - 1)] == '$' ? g->root_dollar : g->root);
	if (reason)
		return reason;
	route = s->topic.route;
	r = bpf_map_lookup_elem(&routes, &route);
	if (!r)
		return REASON_NO_ROUTE;
	if (r->flags & ROUTE_FALLBACK)
		return REASON_ROUTE_FALLBACK;
	if (!(s->admit.rights & RIGHTS_ALL)) {
		s->topic.grant.conn = conn;
		s->topic.grant.gen = d->gen;
		s->topic.grant.rights = s->admit.rights;
		s->topic.grant.len = s->publish.topic_len;
		memset(s->topic.grant.topic, 0, TOPIC_MAX);
		len = s->publish.topic_len;
		at = s->publish.topic & 15;
		opaque(len);
		if (len > TOPIC_MAX || bpf_probe_read_kernel(s->topic.grant.topic, len, s->look + at) ||
		    !bpf_map_lookup_elem(&grants, &s->topic.grant))
			return REASON_NOT_GRANTED;
	}
	s->routed.counter = r->counter;
	s->routed.function = r->function;
	s->routed.copy = r->flags & ROUTE_COPY;
	s->routed.line = r->line ? (__u64)d->line << 32 | r->line : 0;
	fn = bpf_map_lookup_elem(&functions, &s->routed.function);
	if (!fn || !*(volatile __u32 *)&fn->pod_count)
		return REASON_ROUTE_FALLBACK;
	s->routed.plain = s->routed.subject_len == s->publish.topic_len;
	return REASON_TAKEN;
}

static __always_inline bool topic_cached(const struct scratch *s, const struct device *d)
{
	__u32 len = s->publish.topic_len;
	__u64 a, tail;

	if (d->cache_topic_len != len)
		return false;
	for (__u32 i = 0; i < CACHE_TOPIC; i += 8) {
		if (i >= afresh(s->publish.topic_len))
			break;
		a = *(const __u64 *)(s->look + ((s->publish.topic + i) & (MQTT_LOOK - 1)));
		a ^= *(const __u64 *)(d->cache_topic + i);
		tail = afresh(s->publish.topic_len) - i;
		if (tail < 8)
			a <<= 64 - tail * 8;
		if (a)
			return false;
	}
	return true;
}

/*
 * Keeps the route just found for the next message of the same topic, unless the client's
 * rights have changed meanwhile. Returns false if they have, or the connection is another's.
 */
static __always_inline bool cache_fill(struct conn *c, struct device *d, struct scratch *s, __u32 gen, __u32 epoch)
{
	bool ok = false;

	bpf_spin_lock(&c->lock);
	if (c->gen == gen && c->state == CONN_OPEN && d->rights == s->admit.rights) {
		if (s->publish.topic_len <= CACHE_TOPIC && !s->routed.line) {
			d->cache_epoch = epoch;
			d->cache_counter = s->routed.counter;
			d->cache_function = s->routed.function;
			d->cache_topic_len = s->publish.topic_len;
			d->cache_flags = (s->routed.plain ? CACHE_PLAIN : 0) | (s->routed.copy ? CACHE_COPY : 0);
			for (__u32 i = 0; i < CACHE_TOPIC; i += 8) {
				if (i >= afresh(s->publish.topic_len))
					break;
				*(__u64 *)(d->cache_topic + i) =
					*(const __u64 *)(s->look + ((s->publish.topic + i) & (MQTT_LOOK - 1)));
			}
			/* Last: who reads meanwhile, without the lock, has the version of before. */
			asm volatile("" : : : "memory");
			d->cache_version++;
		}
		s->admit.version = d->cache_version;
		ok = true;
	}
	bpf_spin_unlock(&c->lock);
	return ok;
}

/*
 * Where the message at s->publish goes: as the connection's entry remembers it for this
 * topic, or looked up. s->admit.version is then what must still be so when it is taken.
 */
static __always_inline enum reason route_message(struct conn *c, struct device *d, __u32 conn, struct scratch *s,
						 __u32 epoch)
{
	enum reason reason;

	if (d->cache_epoch == epoch && topic_cached(s, d)) {
		s->routed.counter = d->cache_counter;
		s->routed.function = d->cache_function;
		s->routed.plain = d->cache_flags & CACHE_PLAIN;
		s->routed.copy = d->cache_flags & CACHE_COPY;
		s->routed.line = 0;
		s->routed.subject_len = s->publish.topic_len;
		if (!afresh(s->routed.plain))
			subject_encode(s);
		return REASON_TAKEN;
	}
	reason = route_find(s, d, conn);
	if (reason)
		return reason;
	return cache_fill(c, d, s, s->origin.gen, epoch) ? REASON_TAKEN : REASON_RACE;
}

#endif
