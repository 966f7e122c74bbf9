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
