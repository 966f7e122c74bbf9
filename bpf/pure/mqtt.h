/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * mqtt.h - the PUBLISH parser. No kernel context: compiles natively and is
 * fuzzed against the Go parser. Works on a buffer whose size is a power of
 * two, so that one mask proves every access to the verifier.
 */
#ifndef EPROXY_MQTT_H
#define EPROXY_MQTT_H

#include "common.h"

/* Bytes of a segment that are looked at: fixed header, topic, packet id, length of the properties. */
#define MQTT_LOOK 256

/* A PUBLISH whose head has been read. */
struct publish {
	__u32 length; /* whole packet, bytes */
	__u32 topic;  /* offset of the topic name */
	__u32 topic_len;
	__u32 payload;	 /* offset of the payload */
	__u16 packet_id; /* 0 for QoS 0 */
	__u8 qos;
	__u8 pad;
	__u32 properties; /* bytes of MQTT 5 properties, which end where the payload begins */
};

/* The remaining length behind the first byte, from *off on, which moves behind it. */
static __always_inline enum reason mqtt_remaining(const __u8 *buf, __u32 len, __u32 version, __u32 *off,
						  __u32 *remaining)
{
	__u32 shift = 0;

	for (int i = 0; i < 4; i++) { /* [MQTT-1.5.5], at most four bytes */
		__u8 b;

		if (*off >= len)
			return REASON_PARTIAL;
		b = buf[*off & (MQTT_LOOK - 1)];
		(*off)++;
		*remaining |= (__u32)(b & 0x7f) << shift;
		shift += 7;
		if (!(b & 0x80)) /* MQTT 5 demands the shortest encoding [MQTT-1.5.5-1]. */
			return i && !b && version == 5 ? REASON_MALFORMED : REASON_TAKEN;
	}
	return REASON_MALFORMED;
}

/*
 * The length of a PUBLISH's properties, from *off on, which moves behind these; left is what the packet has behind a
 * length of one byte.
 */
static __always_inline enum reason mqtt_properties(const __u8 *buf, __u32 *off, __u32 left, struct publish *p)
{
	__u32 len = buf[*off & (MQTT_LOOK - 1)], more;

	(*off)++;
	if (!len)
		return REASON_TAKEN;
	if (len & 0x80) {
		if (!left)
			return REASON_MALFORMED;
		more = buf[*off & (MQTT_LOOK - 1)];
		(*off)++;
		left--;
		if (!more) /* [MQTT-1.5.5-1] */
			return REASON_MALFORMED;
		if (more & 0x80)
			return REASON_PROPERTIES_LONG;
		len = (len & 0x7f) | more << 7;
	}
	if (len > left)
		return REASON_MALFORMED;
	if (len > PROPERTIES_MAX)
		return REASON_PROPERTIES_LONG;
	p->properties = len;
	*off += len;
	return REASON_TAKEN;
}

/*
 * Reads the head of a PUBLISH at buf[0] with len bytes of the stream at hand.
 * p->length is 0 until that says how long the packet is. Returns 0 (REASON_TAKEN) if it is a whole valid PUBLISH that the kernel path
 * can take, as far as its head tells, whatever lies behind it; the topic name's
 * characters are checked by utf8_step. Without a topic it has properties, among which must be an alias.
 */
static __always_inline enum reason mqtt_publish(const __u8 *buf, __u32 len, __u32 version, struct publish *p)
{
	__u32 off = 1, remaining = 0, head;
	enum reason reason;
	bool dup;
	__u8 first = buf[0];

	p->length = 0;
	if (len < 2)
		return REASON_PARTIAL;
	if ((first & 0xf0) != 0x30)
		return REASON_NOT_PUBLISH;
	reason = mqtt_remaining(buf, len, version, &off, &remaining);
	if (reason)
		return reason;
	p->qos = (first >> 1) & 3;
	dup = first & 8;
	if (p->qos == 3 || (dup && !p->qos)) /* [MQTT-3.3.1-4], [MQTT-3.3.1-2] */
		return REASON_MALFORMED;
	if (p->qos == 2)
		return REASON_QOS2;
	if (first & 1)
		return REASON_RETAIN;
	p->length = off + remaining;
	if (p->length > len)
		return REASON_PARTIAL;
	if (remaining < 2)
		return REASON_MALFORMED;
	p->topic_len = ((__u32)buf[off & (MQTT_LOOK - 1)] << 8) | buf[(off + 1) & (MQTT_LOOK - 1)];
	p->topic = off + 2;
	head = 2 + p->topic_len + (p->qos ? 2 : 0) + (version == 5 ? 1 : 0);
	if (head > remaining)
		return REASON_MALFORMED;
	if (!p->topic_len && version != 5) /* [MQTT-4.7.3-1] */
		return REASON_MALFORMED;
	if (p->topic_len > TOPIC_MAX)
		return REASON_TOPIC_LONG;
	off = p->topic + p->topic_len;
	p->packet_id = 0;
	if (p->qos) {
		p->packet_id = ((__u16)buf[off & (MQTT_LOOK - 1)] << 8) | buf[(off + 1) & (MQTT_LOOK - 1)];
		off += 2;
		if (!p->packet_id) /* [MQTT-2.2.1-3] */
			return REASON_PACKET_ID;
	}
	p->properties = 0;
	if (version == 5) {
		reason = mqtt_properties(buf, &off, remaining - head, p);
		if (reason)
			return reason;
	}
	if (!p->topic_len && !p->properties) /* without an alias [MQTT-4.7.3-1] */
		return REASON_MALFORMED;
	p->payload = off;
	return dup ? REASON_DUP : REASON_TAKEN;
}

/* State of UTF-8 decoding: bytes still expected, and what the next one may be. */
struct utf8 {
	__u8 want;
	__u8 low;
	__u8 high;
};

/* One byte of a topic name. Returns false if it cannot be part of one [MQTT-1.5.3-1..3], [MQTT-3.3.2-2]. */
static __always_inline bool utf8_step(struct utf8 *u, __u8 b)
{
	if (u->want) {
		if (b < u->low || b > u->high)
			return false;
		u->want--;
		u->low = 0x80;
		u->high = 0xbf;
		return true;
	}
	if (b < 0x80)
		return b && b != '+' && b != '#';
	u->low = 0x80;
	u->high = 0xbf;
	if (b < 0xc2 || b > 0xf4)
		return false;
	if (b < 0xe0) {
		u->want = 1;
	} else if (b < 0xf0) {
		u->want = 2;
		if (b == 0xe0)
			u->low = 0xa0;
		else if (b == 0xed)
			u->high = 0x9f; /* no surrogates */
	} else {
		u->want = 3;
		if (b == 0xf0)
			u->low = 0x90;
		else if (b == 0xf4)
			u->high = 0x8f;
	}
	return true;
}

#endif
