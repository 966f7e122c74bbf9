/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * publish.h - may this source have one more message under way, now; and is what is next in its stream a
 * PUBLISH that the programs take.
 */
#ifndef EPROXY_ADMIT_PUBLISH_H
#define EPROXY_ADMIT_PUBLISH_H

#include "properties.h"
#include "room.h"
#include "../mech/load.h"
#include "../work/scratch.h"

/* The first len bytes of the next message, or more, into s->look. Returns 0 or less. */
static __always_inline int message_look(void *ctx, bool xdp, struct scratch *s, __u32 len)
{
	struct kept *k;

	if (xdp || !afresh(s->admit.kept))
		return packet_load(ctx, xdp, s->packet.payload, s->look, len);
	k = kept_entry(s->conn);
	if (!k)
		return -1;
	copy_lines(s->look, k->bytes, &k->whole, MQTT_LOOK);
	return 0;
}

/* Reads the message's properties, into s->properties. gen is the connection's. */
static __always_inline enum reason message_properties(void *ctx, bool xdp, struct scratch *s, __u32 conn, __u32 gen)
{
	__u32 len = s->publish.properties, off = s->publish.payload - len;
	struct kept *k;

	if (!within(len, 1, PROPERTIES_MAX))
		return REASON_PROPERTIES_LONG;
	if (xdp || !afresh(s->admit.kept)) {
		if (packet_load(ctx, xdp, s->packet.payload + off, s->properties.raw, len))
			return REASON_LOAD_ERROR;
	} else {
		k = kept_entry(s->conn);
		if (!k)
			return REASON_LOAD_ERROR;
		copy_lines(s->properties.raw, k->bytes + (off & (MQTT_LOOK - 1)), &s->publish.properties,
			   PROPERTIES_MAX);
	}
	return properties_read(xdp ? HOOK_XDP_DEVICE : HOOK_TC_DEVICE_IN, conn, gen);
}

/*
 * Whether messages may be taken of what the connection is about to receive: of this source, now, at this place of its
 * stream. A look without the lock: take_account makes sure.
 */
static __always_inline enum reason admit_segment(const struct globals *g, struct conn *c, struct device *d,
						 const struct packet *p, bool xdp)
{
	if (!g || g->draining || c->state != CONN_OPEN || (c->flags & (CONN_BROKEN | CONN_NO_TAKE)))
		return REASON_NOT_OPEN;
	/* XDP takes whole segments: a FIN must reach the socket, behind something of the same segment */
	if (!p->plain || (p->seg.flags & (TH_SYN | TH_RST | TH_URG)) || (xdp && (p->seg.flags & TH_FIN)))
		return REASON_TCP_FLAGS;
	if (!conn_next(c, p->seg.seq))
		return REASON_NOT_NEXT;
	if (c->flags & CONN_LOST)
		return REASON_LOST_TRACK;
	if (!framing_at_boundary(&d->framing))
		return REASON_NO_BOUNDARY;
	if (device_full(c, d) && (c->in_flight >= d->inflight_max || !device_make_room(c, d)))
		return REASON_RING_FULL;
	if (xdp && c->tx_kuna != c->tx_knxt)
		return REASON_ACK_NEWS;
	if (xdp && c->in_flight >= XDP_OPEN_MAX)
		return REASON_XDP_QUEUE;
	return REASON_TAKEN;
}

/* Reads the message at the front of the packet, into s->publish and s->look, and judges it. gen is the connection's. */
static __always_inline enum reason admit_publish(void *ctx, bool xdp, const struct device *d, struct scratch *s,
						 __u32 conn, __u32 gen)
{
	__u32 len = s->packet.seg.len, look = len < MQTT_LOOK ? len : MQTT_LOOK;
	enum reason reason;

	s->publish.length = 0;
	if (!within(look, 2, MQTT_LOOK))
		return REASON_PARTIAL;
	if (message_look(ctx, xdp, s, look))
		return REASON_LOAD_ERROR;
	reason = mqtt_publish(s->look, len, d->version, &s->publish);
	if (reason)
		return reason;
	if (xdp && s->publish.length < len)
		return REASON_MULTI;
	if ((s->packet.seg.flags & TH_FIN) && s->publish.length >= len)
		return REASON_TCP_FLAGS;
	if (s->publish.length - s->publish.payload > PAYLOAD_MAX)
		return REASON_TOO_LARGE;
	if (s->publish.properties) {
		reason = message_properties(ctx, xdp, s, conn, gen);
		if (reason)
			return reason;
	}
	if (s->publish.qos && !device_id_room(conn, gen, s->publish.packet_id))
		return REASON_RING_FULL;
	return REASON_TAKEN;
}

#endif
