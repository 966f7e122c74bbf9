/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* follow.h - the MQTT framing of an skb's payload (pure/framing.h). */
#ifndef EPROXY_MECH_FOLLOW_H
#define EPROXY_MECH_FOLLOW_H

#include "skb.h"

/* Following a segment's MQTT framing. */
struct framing_ctx {
	struct __sk_buff *skb;
	struct framing *framing; /* where it stands */
	__u32 off;
	__u32 end;
	bool remainder; /* no further than the current packet's end */
	__u8 client;	/* a client's stream, of this version of MQTT: ends where its session does */
	__u8 pad;
};

/*
 * The fixed header of a PUBLISH has ended, or the segment has: whether it may be one with a topic. Without one it gives no alias another topic. What is not in the
 * segment may be anything.
 */
static __always_inline bool framing_topic(const struct framing_ctx *w)
{
	__u16 len;

	return w->off + sizeof(len) > w->end || bpf_skb_load_bytes(w->skb, w->off, &len, sizeof(len)) || len;
}

static long framing_step(__u64 index, void *data)
{
	struct framing_ctx *w = data;
	struct framing *framing = w->framing;
	__u32 n;
	__u8 b;

	if (w->off >= w->end || framing->bad || (w->remainder && framing_at_boundary(framing)))
		return 1;
	if (framing->left) {
		n = w->end - w->off;
		if (n > framing->left)
			n = framing->left;
		framing->left -= n;
		w->off += n;
		return 0;
	}
	if (bpf_skb_load_bytes(w->skb, w->off, &b, 1)) {
		framing->bad = 1;
		return 1;
	}
	if (w->client && !framing->head && !framing_goes_on(b)) {
		framing->bad = 1; /* what follows is the server's to judge */
		return 1;
	}
	if (!framing->head)
		framing->publish = w->client == 5 && b >> 4 == 3;
	w->off++;
	framing_head_byte(framing, b);
	if (framing->publish && (!framing->head || w->off >= w->end)) {
		framing->publish = 0;
		framing->topics |= framing_topic(w);
	}
	return 0;
}

/*
 * Follows the framing of the segment's payload, from its byte `front` on; client: of what a client of this version of MQTT sends; 0: of what a server does.
 */
static __always_inline void skb_framing(struct __sk_buff *skb, const struct packet *p, struct framing *framing,
					__u32 front, __u8 client)
{
	struct framing_ctx w = {
		.skb = skb,
		.framing = framing,
		.off = p->payload + front,
		.end = p->payload + p->seg.len,
		.client = client,
	};

	framing->publish = 0;
	framing->topics = 0;
	bpf_loop(2 * (p->seg.len - front) + 1, framing_step, &w, 0);
}

/*
 * Bytes at the front of the payload that belong to a packet begun earlier, if
 * another packet begins behind them; else 0. framing is where the segment
 * begins, and then where that packet does.
 */
static __always_inline __u32 skb_remainder(struct __sk_buff *skb, const struct packet *p, struct framing *framing)
{
	struct framing_ctx w = {
		.skb = skb,
		.framing = framing,
		.off = p->payload,
		.end = p->payload + p->seg.len,
		.remainder = true,
	};

	bpf_loop(8, framing_step, &w, 0); /* a fixed header has five bytes at most */
	return framing_at_boundary(framing) && w.off < w.end ? w.off - p->payload : 0;
}

#endif
