/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * alias.h - what the topic aliases of a connection stand for, as far as that is certain (MQTT 5 section 3.3.2.3.4). No
 * kernel context: compiles natively. Everything here that has a device runs under its connection's lock.
 *
 * The MQTT server alone says what an alias stands for. A PUBLISH that gives an alias its topic always passes to it, and from that moment
 * on what the table says is uncertain, until the server has read so far: it writes what it has read to the table before it says so.
 */
#ifndef EPROXY_PURE_ALIAS_H
#define EPROXY_PURE_ALIAS_H

#include "mqtt.h"
#include "seq.h"

/* Where alias_give writes a topic, among the bytes that a message's head was read from. */
#define ALIAS_AT 8

/* What is passed to the local socket may give aliases their topics; it ends at this kernel position. */
static __always_inline void alias_passed(struct device *d, __u32 end)
{
	d->alias_end = end;
	d->alias_unread = 1;
}

/* The server has read all below this kernel position, where a packet ends, and has written to the table what that says. */
static __always_inline void alias_read(struct device *d, __u32 at)
{
	if (seq_ge(at, d->alias_end))
		d->alias_unread = 0;
}

/* Whether alias n, from 1 on, has a topic that is certain. */
static __always_inline bool alias_certain(const struct device *d, __u32 n)
{
	return !d->alias_unread && (d->aliases >> ((n - 1) & (ALIASES_MAX - 1)) & 1);
}

/* The topic of alias n. */
static __always_inline struct alias *alias_at(struct alias_table *t, __u32 n)
{
	return &t->alias[(n - 1) & (ALIASES_MAX - 1)];
}

/* Alias n stands for another topic, which its entry has already, or, without a topic, for none that the programs could route. */
static __always_inline void alias_set(struct device *d, __u32 n, bool topic)
{
	__u32 bit = 1u << ((n - 1) & (ALIASES_MAX - 1));

	if (topic)
		d->aliases |= bit;
	else
		d->aliases &= ~bit;
}

/* Eight bytes of the topic at p, from the i-th on; those behind its end are zero. */
static __always_inline __u64 alias_word(const __u8 *look, const struct publish *p, __u32 i)
{
	__u64 w = *(const __u64 *)(look + ((p->topic + i) & (MQTT_LOOK - 1)));
	__u32 left = p->topic_len - i;

	return left < 8 ? w & ((1ull << left * 8) - 1)
			: w; /* the first byte is the lowest: all that runs this is little endian */
}

/* Whether the topic of the message in look is the alias's. */
static __always_inline bool alias_is(const struct alias *a, const __u8 *look, const struct publish *p)
{
	__u64 differ = a->len ^ p->topic_len;

	for (__u32 i = 0; i < TOPIC_MAX; i += 8) {
		if (differ || i >= afresh(p->topic_len))
			break;
		differ = alias_word(look, p, i) ^ *(const __u64 *)(a->topic + i);
	}
	return !differ;
}

/* The message in look, which has no topic, gets the alias's, as if it had come with it. */
static __always_inline void alias_give(const struct alias *a, __u8 *look, struct publish *p)
{
	for (__u32 i = 0; i < TOPIC_MAX; i += 8)
		*(__u64 *)(look + ALIAS_AT + i) = *(const __u64 *)(a->topic + i);
	p->topic = ALIAS_AT;
	p->topic_len = a->len;
}

#endif
