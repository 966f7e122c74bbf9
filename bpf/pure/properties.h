/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * properties.h - reads the MQTT 5 properties of a PUBLISH (MQTT 5 section 3.3.2.3). No kernel context:
 * compiles natively and is compared with the Go parser. What the kernel path has no header for, and what is not valid,
 * is the fallback's, which finds out which it is.
 */
#ifndef EPROXY_PROPERTIES_H
#define EPROXY_PROPERTIES_H

#include "common.h"

/* Properties of a message that are read: each kind once, and the user properties. */
#define PROPERTY_TURNS (4 + USERS_MAX)

/* Where a text lies among the properties. */
struct text {
	__u16 off;
	__u16 len;
};

/* The properties of a message. */
struct properties {
	__u32 len;	  /* bytes of them */
	__u32 off;	  /* scan: next byte */
	__u32 seen;	  /* bit per identifier, but for topic alias and user properties */
	__u32 users;	  /* user properties */
	__u32 expiry;	  /* Message Expiry Interval, seconds; 0: none */
	__u32 utf8;	  /* 1: Payload Format Indicator 1 */
	__u32 alias;	  /* Topic Alias, 1 to ALIASES_MAX; 0: none */
	struct text type; /* Content Type */
	struct text name[USERS_MAX];
	struct text value[USERS_MAX];
};

/* Identifiers of MQTT 5 section 2.2.2.2. */
enum property {
	PROPERTY_FORMAT = 0x01,
	PROPERTY_EXPIRY = 0x02,
	PROPERTY_TYPE = 0x03,
	PROPERTY_ALIAS = 0x23,
	PROPERTY_USER = 0x26,
};

static __always_inline __u8 property_byte(const __u8 *raw, __u32 off)
{
	return raw[off & (PROPERTIES_MAX - 1)];
}

/* The text at the scan's next byte, which moves behind it. Returns false if it does not end among the properties. */
static __always_inline bool property_text(const __u8 *raw, struct properties *q, struct text *t)
{
	__u32 off = q->off, len = (__u32)property_byte(raw, off) << 8 | property_byte(raw, off + 1);

	if (off + 2 + len > q->len)
		return false;
	t->off = off + 2;
	t->len = len;
	q->off = off + 2 + len;
	return true;
}

/* The next property is this user property. */
static __always_inline enum reason property_user(const __u8 *raw, struct properties *q)
{
	__u32 n = q->users;

	if (n >= USERS_MAX)
		return REASON_PROPERTIES_LONG;
	if (!property_text(raw, q, &q->name[n & (USERS_MAX - 1)]) ||
	    !property_text(raw, q, &q->value[n & (USERS_MAX - 1)]))
		return REASON_PROPERTIES;
	q->users = n + 1;
	return REASON_TAKEN;
}

/* The next property is this topic alias, behind which the scan moves. */
static __always_inline enum reason property_alias(const __u8 *raw, struct properties *q)
{
	__u32 off = q->off, alias = (__u32)property_byte(raw, off) << 8 | property_byte(raw, off + 1);

	q->off = off + 2;
	if (q->alias || !alias || alias > ALIASES_MAX || q->off > q->len)
		return REASON_PROPERTIES;
	q->alias = alias;
	return REASON_TAKEN;
}

/* Reads the next property; raw has q->len bytes of them. */
static __always_inline enum reason property_step(const __u8 *raw, struct properties *q)
{
	__u32 id = property_byte(raw, q->off), off = ++q->off, once;

	if (id == PROPERTY_USER)
		return property_user(raw, q);
	if (id == PROPERTY_ALIAS)
		return property_alias(raw, q);
	if (id > PROPERTY_TYPE)
		return REASON_PROPERTIES;
	once = 1u << id;
	if (q->seen & once)
		return REASON_PROPERTIES;
	q->seen |= once;
	switch (id) {
	case PROPERTY_FORMAT:
		q->utf8 = property_byte(raw, off);
		q->off = off + 1;
		return q->utf8 > 1 || q->off > q->len ? REASON_PROPERTIES : REASON_TAKEN;
	case PROPERTY_EXPIRY:
		q->expiry = (__u32)property_byte(raw, off) << 24 | (__u32)property_byte(raw, off + 1) << 16 |
			    (__u32)property_byte(raw, off + 2) << 8 | property_byte(raw, off + 3);
		q->off = off + 4;
		return q->off > q->len ? REASON_PROPERTIES : REASON_TAKEN;
	case PROPERTY_TYPE:
		return property_text(raw, q, &q->type) ? REASON_TAKEN : REASON_PROPERTIES;
	}
	return REASON_PROPERTIES;
}

/* Reads the len bytes of properties in raw. */
static __always_inline enum reason properties_scan(const __u8 *raw, __u32 len, struct properties *q)
{
	enum reason reason = REASON_TAKEN;

	memset(q, 0, sizeof(*q));
	q->len = len;
	repeat(i, PROPERTY_TURNS + 1) {
		if (afresh(q->off) >= afresh(q->len))
			break;
		reason = property_step(raw, q);
		if (reason)
			break;
	}
	if (!reason && afresh(q->off) < afresh(q->len))
		reason = REASON_PROPERTIES_LONG;
	return reason;
}

/*
 * Whether the eight bytes of w, of which the first n are looked at, are printable ASCII, as the kernel path writes them
 * into a header.
 */
static __always_inline bool text_plain(__u64 w, __u32 n)
{
	const __u64 ones = 0x0101010101010101ull, high = ones << 7;

	if (n < 8)
		w = (w & ((1ull << n * 8) - 1)) | (ones * 'x') << n * 8;
	/* none above 0x7e, all from 0x20 on: each sum stays in its byte */
	return !((w | (w + ones)) & high) && (((w & ~high) + ones * 0x60) & high) == high;
}

/* Whether a byte may stand in a field name (RFC 9110 section 5.6.2). */
static __always_inline bool token_byte(__u8 b)
{
	/* bits of ! # $ % & ' * + - . 0-9, and of A-Z ^ _ ` a-z | ~ */
	__u64 set = b & 0x40 ? 0x57ffffffc7fffffeull : 0x03ff6cfa00000000ull;

	return b < 0x80 && (set >> (b & 63) & 1);
}

#endif
