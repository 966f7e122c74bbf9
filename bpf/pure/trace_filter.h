/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * trace_filter.h - whether a message is one that somebody wants to see, as far as its bytes say. No kernel
 * context: compiled natively and compared with Go.
 */
#ifndef EPROXY_TRACE_FILTER_H
#define EPROXY_TRACE_FILTER_H

#include "mqtt.h"

/* How far a topic filter has matched: bytes of it, or one of these. */
#define FILTER_NO  0xfffffffeu /* it does not match */
#define FILTER_ALL 0xffffffffu /* it matches whatever follows */

static __always_inline __u8 filter_byte(const struct tracing *t, __u32 at)
{
	return t->topic[at & (TOPIC_MAX - 1)];
}

/*
 * One more byte of a topic name. at is how far the filter, which is valid (MQTT 5 section 4.7.1), has matched so far, 0 at
 * first; returns how far it has then.
 */
static __always_inline __u32 filter_step(const struct tracing *t, __u32 at, __u8 b)
{
	__u8 c;

	if (at >= t->topic_len)
		return at == FILTER_ALL ? FILTER_ALL : FILTER_NO;
	c = filter_byte(t, at);
	if (!at && b == '$' && (c == '+' || c == '#')) /* [MQTT-4.7.2-1] */
		return FILTER_NO;
	if (c == '#')
		return FILTER_ALL;
	if (c == '+') {
		if (b != '/')
			return at;
		return at + 1 < t->topic_len ? at + 2 : FILTER_NO;
	}
	return c == b ? at + 1 : FILTER_NO;
}

/* Whether the filter matches a name that ends here. "#" also matches the level above it. */
static __always_inline bool filter_ends(const struct tracing *t, __u32 at)
{
	if (at == FILTER_ALL || at == FILTER_NO)
		return at == FILTER_ALL;
	if (at < t->topic_len && filter_byte(t, at) == '+')
		at++;
	if (at == t->topic_len)
		return true;
	if (filter_byte(t, at) == '#')
		return true;
	return at + 2 == t->topic_len && filter_byte(t, at) == '/' && filter_byte(t, at + 1) == '#';
}

/*
 * Whether the filter matches the topic name at p->topic in buf, of which p->topic_len bytes are there; cut: there are more.
 * at is work space: in memory, of which the verifier knows nothing, so that it need not follow each position.
 */
static __always_inline bool filter_matches(const struct tracing *t, const __u8 *buf, const struct publish *p, bool cut,
					   __u32 *at)
{
	if (!t->topic_len)
		return true;
	if (!p->topic_len)
		return false;
	*at = 0;
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < TOPIC_MAX; i++)
	{
		if (i >= afresh(p->topic_len))
			break;
		*(volatile __u32 *)at = filter_step(t, afresh(*at), buf[(p->topic + i) & (MQTT_LOOK - 1)]);
	}
	return cut ? afresh(*at) == FILTER_ALL : filter_ends(t, afresh(*at));
}

/*
 * The topic and QoS of the PUBLISH at buf[0], whether the kernel path can take it or not, of which len bytes are there, up
 * to MQTT_LOOK. p->topic_len is 0 if it has none, or its topic is not there. Returns whether the topic is longer than
 * p->topic_len says.
 */
static __always_inline bool publish_topic(const __u8 *buf, __u32 len, struct publish *p)
{
	__u32 off = 1, there;

	p->topic_len = 0;
	p->qos = (buf[0] >> 1) & 3;
	for (int i = 0; i < 4; i++) {
		__u8 b = buf[off & (MQTT_LOOK - 1)];

		off++;
		if (!(b & 0x80))
			break;
	}
	if (off + 2 > len)
		return false;
	p->topic = off + 2;
	p->topic_len = ((__u32)buf[off & (MQTT_LOOK - 1)] << 8) | buf[(off + 1) & (MQTT_LOOK - 1)];
	there = len - p->topic;
	if (there > TOPIC_MAX)
		there = TOPIC_MAX;
	if (p->topic_len <= there)
		return false;
	p->topic_len = there;
	return true;
}

#endif
