/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * topic.h - from a topic name to its route. The filters are compiled by the
 * loader into a deterministic automaton, so that the cost is one hash look-up
 * per topic level, whatever the number of routes.
 */
#ifndef EPROXY_ROUTE_TOPIC_H
#define EPROXY_ROUTE_TOPIC_H

#include "../work/scratch.h"

static const char hex_upper[] = "0123456789ABCDEF";

/* Follows one level. Returns false when the result is known. */
static __always_inline bool route_step(struct scratch *s)
{
	__u32 *child = bpf_map_lookup_elem(&edges, &s->topic.key);
	struct node *n;

	if (child) {
		s->topic.node = *child;
	} else {
		n = bpf_map_lookup_elem(&nodes, &s->topic.node);
		if (!n)
			return false;
		if (n->plus == NO_INDEX) {
			s->topic.route = n->hash;
			return false;
		}
		s->topic.node = n->plus;
	}
	memset(s->topic.key.level, 0, LEVEL_MAX);
	s->topic.key.len = 0;
	s->topic.key.node = s->topic.node;
	return true;
}

/* One byte of the topic: characters, percent-encoding, levels. */
static long route_byte(__u64 index, void *data)
{
	struct scratch *s = *(struct scratch **)data;
	__u32 off = s->publish.topic + index;
	__u8 b = s->look[off & (MQTT_LOOK - 1)];
	__u32 at = s->routed.subject_len;

	if (!utf8_step(&s->topic.utf8, b)) {
		s->topic.bad = REASON_TOPIC_NAME;
		return 1;
	}
	if (at > SUBJECT_MAX) {
		s->topic.bad = REASON_TOPIC_LONG;
		return 1;
	}
	/* CloudEvents HTTP binding 1.0.2, section 3.1.3.2 */
	if (b <= 0x20 || b >= 0x7f || b == '"' || b == '%') {
		s->topic.subject[at] = '%';
		s->topic.subject[at + 1] = hex_upper[b >> 4];
		s->topic.subject[at + 2] = hex_upper[b & 15];
		s->routed.subject_len = at + 3;
	} else {
		s->topic.subject[at] = b;
		s->routed.subject_len = at + 1;
	}
	if (!s->topic.pos)
		return 0;
	if (b == '/') {
		if (!route_step(s))
			s->topic.pos = 0;
		return 0;
	}
	if (s->topic.key.len >= LEVEL_MAX) {
		s->topic.bad = REASON_TOPIC_LONG;
		return 1;
	}
	s->topic.key.level[s->topic.key.len] = b;
	s->topic.key.len++;
	return 0;
}

/*
 * Finds the route of the topic at s->publish and leaves it in s->topic.route; checks
 * the topic's characters, and encodes them for ce-subject.
 */
static __always_inline enum reason route_match(struct scratch *s, __u32 root)
{
	struct scratch *arg = s;
	struct node *n;

	s->topic.bad = 0;
	s->topic.route = -1;
	s->topic.pos = 1;
	s->topic.node = root;
	s->topic.utf8.want = 0;
	memset(&s->topic.key, 0, sizeof(s->topic.key));
	s->topic.key.node = root;
	if (s->publish.topic_len > TOPIC_MAX)
		return REASON_TOPIC_LONG;
	bpf_loop(s->publish.topic_len, route_byte, &arg, 0);
	if (s->topic.bad)
		return s->topic.bad;
	if (s->topic.utf8.want)
		return REASON_TOPIC_NAME;
	if (s->topic.pos && route_step(s)) {
		n = bpf_map_lookup_elem(&nodes, &s->topic.node);
		if (n)
			s->topic.route = n->exact;
	}
	return s->topic.route < 0 ? REASON_NO_ROUTE : REASON_TAKEN;
}

/* Encodes the topic only: its characters and route are known. */
static long subject_byte(__u64 index, void *data)
{
	struct scratch *s = *(struct scratch **)data;

	s->topic.pos = 0;
	return route_byte(index, data);
}

/* The subject of a topic whose route is known, for ce-subject. */
static __always_inline void subject_encode(struct scratch *s)
{
	struct scratch *arg = s;

	s->routed.subject_len = 0;
	s->topic.utf8.want = 0;
	bpf_loop(s->publish.topic_len, subject_byte, &arg, 0);
}

#endif
