/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* write.h - a message's request is written, its payload from the packet, or from what of the segment before was kept. */
#ifndef EPROXY_REQUEST_WRITE_H
#define EPROXY_REQUEST_WRITE_H

#include "../mech/load.h"
#include "lines.h"

/* Bytes that request_tail writes. */
static __always_inline __u32 request_tail_len(const struct publish *p, __u32 payload_len)
{
	__u32 n = 7 + CE_ID_LEN + 2 + 16 + 4 + (p->qos ? 15 : 0);

	return n + (payload_len < 10 ? 1 : payload_len < 100 ? 2 : payload_len < 1000 ? 3 : 4);
}

/*
 * Writes what follows ce-subject, from offset `at`; id_prefix and id make ce-id. Stores are eight bytes
 * wide and overlap what the next one writes. Returns the payload's offset.
 */
static __always_inline __u32 request_tail(struct request *r, const __u8 id_prefix[16], __u32 id, __u32 at,
					  struct scratch *s, __u32 payload_len, __u32 hook, __u32 parked)
{
	if (s->publish.qos) {
		put8(r, at, WORD('X', '-', 'M', 'q', 't', 't', '-', 'Q'));
		put8(r, at + 8, WORD('o', 's', ':', ' ', '1', '\r', '\n', 0));
		at += 15;
	}
	if (afresh(s->draft.lines_len))
		lines_copy(hook, parked, at);
	at += afresh(s->draft.lines_len);
	put8(r, at, WORD('c', 'e', '-', 'i', 'd', ':', ' ', 0));
	put8(r, at + 7, *(__u64 *)id_prefix);
	put8(r, at + 15, *(__u64 *)(id_prefix + 8));
	put8(r, at + 19, hex8(id));
	at += 7 + CE_ID_LEN;
	put8(r, at, WORD('\r', '\n', 'C', 'o', 'n', 't', 'e', 'n'));
	put8(r, at + 8, WORD('t', '-', 'L', 'e', 'n', 'g', 't', 'h'));
	put8(r, at + 16, WORD(':', ' ', 0, 0, 0, 0, 0, 0));
	at += 18;
	if (payload_len >= 1000)
		put1(r, at++, '0' + payload_len / 1000 % 10);
	if (payload_len >= 100)
		put1(r, at++, '0' + payload_len / 100 % 10);
	if (payload_len >= 10)
		put1(r, at++, '0' + payload_len / 10 % 10);
	put1(r, at++, '0' + payload_len % 10);
	put8(r, at, WORD('\r', '\n', '\r', '\n', 0, 0, 0, 0));
	return at + 4;
}

/* The lengths of the request of the message in s->publish, into s->draft. */
static __always_inline enum reason request_measure(bool xdp, const struct function *fn, const struct device *d,
						   struct scratch *s)
{
	__u32 payload_len = s->publish.length - s->publish.payload;
	int reason;

	s->draft.sampled = 0;
	s->draft.lines_len = 0;
	s->draft.own_type = 0;
	if (s->publish.properties) {
		reason = lines_write(xdp ? HOOK_XDP_DEVICE : HOOK_TC_DEVICE_IN);
		if (reason)
			return reason;
	}
	s->draft.head_len = request_head_len(fn, d, s);
	if (s->draft.head_len > HEAD_MAX || s->draft.head_len + afresh(s->draft.lines_len) > LINES_END)
		return REASON_TOO_LARGE;
	s->draft.len = s->draft.head_len + afresh(s->draft.lines_len) + request_tail_len(&s->publish, payload_len) +
		       payload_len;
	return REASON_TAKEN;
}

/*
 * The payload of the message whose head is in s->publish, of len bytes, into the request, from the offset
 * `at` below REQUEST_HEAD on. Returns 0 or less.
 */
static __always_inline int message_payload(void *ctx, bool xdp, struct scratch *s, struct request *r, __u32 at,
					   __u32 len)
{
	struct kept *k;

	if (xdp || !afresh(s->admit.kept))
		return packet_load(ctx, xdp, s->packet.payload + s->publish.payload, r->buf + at, len);
	k = kept_entry(s->conn);
	if (!k)
		return -1;
	s->admit.payload_len = len;
	copy_lines(r->buf + at, k->bytes + (s->publish.payload & (2 * MQTT_LOOK - 1)), &s->admit.payload_len,
		   PAYLOAD_MAX);
	return 0;
}

/*
 * Writes the request of the message whose head is in s->publish to r, which is that of the parked message
 * with this number, or, if it is PARK_NONE, that of the claimed slot; its ce-id is made of id_prefix and id.
 */
static __always_inline enum reason request_write(void *ctx, bool xdp, struct scratch *s, struct request *r,
						 __u32 parked, const __u8 id_prefix[16], __u32 id)
{
	__u32 head_len = s->draft.head_len, payload_len = s->publish.length - s->publish.payload, at;
	enum hook hook = xdp ? HOOK_XDP_DEVICE : HOOK_TC_DEVICE_IN;

	opaque(head_len);
	if (head_len > HEAD_MAX)
		return REASON_SLOT_WRITE;
	request_head(hook, parked);
	at = request_tail(r, id_prefix, id, head_len, s, payload_len, hook, parked);
	opaque(at);
	if (payload_len) {
		if (at >= REQUEST_HEAD || !within(payload_len, 1, PAYLOAD_MAX) ||
		    message_payload(ctx, xdp, s, r, at, payload_len))
			return REASON_SLOT_WRITE;
	}
	at = (at + payload_len) & 4095;
	if (at <= REQUEST_MAX - 8)
		*(__u64 *)(r->buf + at) = 0; /* checksums are made of whole words */
	return REASON_TAKEN;
}

#endif
