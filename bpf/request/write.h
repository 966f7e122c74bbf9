/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* write.h - a message's request is written, its payload from the packet, or from what of the segment before was kept. */
#ifndef EPROXY_REQUEST_WRITE_H
#define EPROXY_REQUEST_WRITE_H

#include "../mech/load.h"
#include "bytes.h"

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
	copy_lines(r->buf + at, k->bytes + (s->publish.payload & (MQTT_LOOK - 1)), &s->admit.payload_len, PAYLOAD_MAX);
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

	opaque(head_len);
	if (head_len > HEAD_MAX)
		return REASON_SLOT_WRITE;
	request_head(xdp ? HOOK_XDP_DEVICE : HOOK_TC_DEVICE_IN, parked);
	at = request_tail(r, id_prefix, id, head_len, &s->publish, payload_len);
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
