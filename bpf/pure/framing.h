/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * framing.h - follows the MQTT framing of a stream, to know where its packets
 * begin. No kernel context: compiles natively and is fuzzed against Go.
 */
#ifndef EPROXY_FRAMING_H
#define EPROXY_FRAMING_H

#include "common.h"

/*
 * One byte of a fixed header (MQTT 3.1.1 section 2.2). Feed it the stream; skip
 * framing.left bytes at once.
 */
static __always_inline void framing_head_byte(struct framing *w, __u8 b)
{
	if (!w->head) { /* control packet type and flags */
		w->head = 1;
		w->length = 0;
		return;
	}
	if (w->head > 4) {
		w->bad = 1;
		return;
	}
	w->length |= (__u32)(b & 0x7f) << ((w->head - 1) * 7 & 31);
	if (b & 0x80) {
		w->head++;
		if (w->head > 4)
			w->bad = 1;
		return;
	}
	w->left = w->length;
	w->head = 0;
}

/*
 * Whether a client's packet with this first byte leaves the session as it is, or
 * may: type and flags as they must be (MQTT 3.1.1 section 2.2, MQTT 5 section
 * 2.1.3, [MQTT-3.3.1-2], [MQTT-3.3.1-4]), and no packet behind which the session
 * is over: DISCONNECT, a second CONNECT, AUTH, or what only a server sends.
 */
static __always_inline bool framing_goes_on(__u8 first)
{
	__u8 flags = first & 15;

	switch (first >> 4) {
	case 3: /* PUBLISH: QoS 0 without DUP, QoS 1, QoS 2 */
		return (flags & 6) != 6 && (flags & 14) != 8;
	case 4:	 /* PUBACK */
	case 5:	 /* PUBREC */
	case 7:	 /* PUBCOMP */
	case 12: /* PINGREQ */
		return !flags;
	case 6:	 /* PUBREL */
	case 8:	 /* SUBSCRIBE */
	case 10: /* UNSUBSCRIBE */
		return flags == 2;
	}
	return false;
}

/* Whether the stream stands at the first byte of a packet. */
static __always_inline bool framing_at_boundary(const struct framing *w)
{
	return !w->left && !w->head && !w->bad;
}

static __always_inline bool framing_same(const struct framing *a, const struct framing *b)
{
	return a->left == b->left && a->length == b->length && a->head == b->head && a->bad == b->bad;
}

#endif
