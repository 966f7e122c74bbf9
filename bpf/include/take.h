/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * take.h - PUBLISH to request: eligibility, route, slot, books. The same for
 * XDP and TC; only reading the packet and sending the result differ.
 */
#ifndef EPROXY_TAKE_H
#define EPROXY_TAKE_H

#include "request.h"
#include "route.h"
#include "slot.h"

static __always_inline int packet_load(void *ctx, bool xdp, __u32 off, void *to, __u32 len)
{
	if (xdp)
		return bpf_xdp_load_bytes(ctx, off, to, len);
	return bpf_skb_load_bytes(ctx, off, to, len);
}

static __always_inline int packet_store(void *ctx, bool xdp, __u32 off, void *from, __u32 len)
{
	if (xdp)
		return bpf_xdp_store_bytes(ctx, off, from, len);
	return bpf_skb_store_bytes(ctx, off, from, len, BPF_F_RECOMPUTE_CSUM);
}

/* Unfolded sum of len bytes; the buffer has room to be padded to four. */
static __always_inline __u32 buffer_sum(__u8 *buf, __u32 len, __u32 sum)
{
	__u32 at = 0;

	/* bpf_csum_diff of older kernels takes 512 bytes at a time */
	for (int i = 0; i < REQUEST_MAX / 512; i++) {
		__u32 n;

		if (len <= at)
			break;
		n = len - at;
		if (n >= 512) {
			sum = bpf_csum_diff(NULL, 0, (__be32 *)(buf + at), 512, sum);
		} else {
			n = (n + 3) & 0x3fc;
			if (n <= 512)
				sum = bpf_csum_diff(NULL, 0, (__be32 *)(buf + at), n, sum);
			break;
		}
		at += 512;
	}
	return sum;
}

static __always_inline bool topic_cached(const struct scratch *s, const struct device *d)
{
	__u32 len = s->publish.topic_len;
	__u64 a, tail;

	if (d->cache_topic_len != len)
		return false;
	for (__u32 i = 0; i < TOPIC_MAX; i += 8) {
		if (i >= afresh(s->publish.topic_len))
			break;
		a = *(const __u64 *)(s->look + ((s->publish.topic + i) & (MQTT_LOOK - 1)));
		a ^= *(const __u64 *)(d->cache_topic + i);
		tail = afresh(s->publish.topic_len) - i;
		if (tail < 8)
			a <<= 64 - tail * 8;
		if (a)
			return false;
	}
	return true;
}

/* Keeps the head just made for the next message of the same topic. */
static __always_inline bool cache_fill(struct conn *c, struct device *d, struct scratch *s, __u32 gen, __u32 epoch)
{
	bool ok = false;

	bpf_spin_lock(&c->lock);
	if (c->gen == gen && c->state == CONN_OPEN) {
		d->cache_version++;
		d->cache_epoch = epoch;
		d->cache_route = s->route;
		d->cache_function = s->function;
		d->cache_topic_len = s->publish.topic_len;
		d->cache_head_len = s->head_len;
		for (__u32 i = 0; i < TOPIC_MAX; i += 8) {
			if (i >= afresh(s->publish.topic_len))
				break;
			*(__u64 *)(d->cache_topic + i) =
				*(const __u64 *)(s->look + ((s->publish.topic + i) & (MQTT_LOOK - 1)));
		}
		copy_words(d->cache_head, s->head, &s->head_len, HEAD_MAX);
		s->cache_version = d->cache_version;
		ok = true;
	}
	bpf_spin_unlock(&c->lock);
	return ok;
}

/* Slot side of a take: the request becomes an insertion in the pod's stream. */
static __always_inline enum reason slot_begin(struct conn *sc, struct slot *slot, struct scratch *s, __u64 now_ns)
{
	enum reason reason = REASON_TAKEN;
	struct stamp stamp;

	bpf_spin_lock(&sc->lock);
	if (slot->state != SLOT_IDLE || sc->state != CONN_OPEN) {
		reason = REASON_DEAD_SOCKET;
	} else if (s->request_len > sc->tx_mss) {
		reason = REASON_TOO_LARGE;
	} else if (!conn_can_insert(sc, s->request_len)) {
		reason = REASON_POD_WINDOW;
	} else {
		conn_stamp(sc, &stamp);
		conn_insert(sc, s->request_len, now_ns / 1000000);
		sc->last_ms = now_ns / 1000000;
		slot->state = SLOT_BUSY;
		slot->device = s->device;
		slot->device_gen = s->device_gen;
		slot->device_seq = s->device_seq;
		slot->route = s->route;
		slot->request_seq = stamp.seq;
		slot->request_len = s->request_len;
		slot->left = 0;
		slot->packet_id = s->publish.packet_id;
		slot->qos = s->publish.qos;
		slot->acked = 0;
		slot->close_after = 0;
		slot->taken_ns = now_ns;
		frame_fill(&s->frame, sc, &stamp, TH_ACK | TH_PSH, s->request_len);
		s->rx.graft.slot_gen = sc->gen;
		s->rx.graft.slot_seq = stamp.seq;
	}
	bpf_spin_unlock(&sc->lock);
	return reason;
}

/* Takes slot_begin back: nothing was sent. A slot that moved on is left to the sweeper. */
static __always_inline void slot_undo(struct conn *sc, struct slot *slot, __u32 index)
{
	bool idle = false;

	bpf_spin_lock(&sc->lock);
	if (slot->state == SLOT_BUSY) {
		idle = conn_uninsert(sc, slot->request_seq, slot->request_len);
		slot->state = idle ? SLOT_IDLE : SLOT_RETIRED;
	}
	bpf_spin_unlock(&sc->lock);
	if (idle)
		slot_set_idle(index, slot);
	else
		event_simple(EVENT_SLOT, index, sc->gen);
}

/* Whether the segment's TCP checksum is right. The claimed slot's buffer is the work space. */
static __always_inline bool segment_ok(void *ctx, bool xdp, const struct packet *p, const struct conn *c,
				       struct slot *slot)
{
	__u32 len = sizeof(struct tcphdr) + p->seg.len;
	__u32 sum = c->pseudo_sum + bpf_htons(len);

	opaque(len);
	if (len < sizeof(struct tcphdr) || len > REQUEST_MAX - 8)
		return false;
	if (packet_load(ctx, xdp, p->l4, slot->buf, len))
		return false;
	*(__u64 *)(slot->buf + len) = 0;
	sum = (sum & 0xffff) + (sum >> 16);
	return csum_fold(buffer_sum(slot->buf, len, sum)) == 0;
}

struct take {
	struct packet *p;
	struct conn *c;
	struct device *d;
	__u32 conn;
	__u32 head_max;	/* XDP: bytes by which the packet may grow */
	__u32 rest_ok;	/* TC: what lies behind the message may pass alone */
};

/*
 * Tries to take the first PUBLISH in this packet. On REASON_TAKEN the request is in
 * the buffer of s->slot, its frame's headers are in s->frame, the books of both
 * connections have it, and the caller must send it.
 */
static __always_inline enum reason take_publish(void *ctx, bool xdp, struct take *t, struct scratch *s)
{
	struct packet *p = t->p;
	struct conn *c = t->c, *sc;
	struct device *d = t->d;
	__u32 len = p->seg.len, look, head_len, payload_len, at, gen = c->gen;
	struct globals *g = globals_get();
	enum rx_action action;
	enum reason reason;
	struct function *fn;
	struct segment one;
	struct slot *slot;
	struct graft *graft;
	struct pod *pod;
	__u64 now;
	bool recheck;

	if (!g || g->draining || c->state != CONN_OPEN || (c->flags & (CONN_BROKEN | CONN_NO_TAKE)))
		return REASON_NOT_OPEN;
	if (!p->plain || (p->seg.flags & (TH_SYN | TH_FIN | TH_RST | TH_URG)))
		return REASON_TCP_FLAGS;
	if (p->seg.seq != c->rx_nxt)
		return REASON_NOT_NEXT;
	if (c->flags & CONN_LOST)
		return REASON_LOST_TRACK;
	if (!walk_at_boundary(&d->walk))
		return REASON_NO_BOUNDARY;
	if (ledger_full(&c->rx, d->inflight_max))
		return REASON_RING_FULL;
	if (xdp && c->tx_kuna != c->tx_knxt)
		return REASON_ACK_NEWS;

	look = len < MQTT_LOOK ? len : MQTT_LOOK;
	opaque(look);
	if (look < 2 || look > MQTT_LOOK)
		return REASON_PARTIAL;
	if (packet_load(ctx, xdp, p->payload, s->look, look))
		return REASON_PARTIAL;
	reason = mqtt_publish(s->look, len, d->version, &s->publish);
	if (reason)
		return reason;
	if (s->publish.length < len) {
		if (xdp || !t->rest_ok)
			return REASON_MULTI;
		len = s->publish.length;
	}
	payload_len = s->publish.length - s->publish.payload;
	if (payload_len > PAYLOAD_MAX)
		return REASON_TOO_LARGE;

	/* The head: from the connection's cache, or made now. */
	s->device = t->conn;
	s->device_gen = gen;
	s->device_seq = p->seg.seq;
	s->cache_version = *(volatile __u32 *)&d->cache_version;
	if (d->cache_epoch != g->epoch || !topic_cached(s, d)) {
		reason = route_head(s, d, t->conn);
		if (reason)
			return reason;
		if (!cache_fill(c, d, s, gen, g->epoch))
			return REASON_RACE;
	}
	head_len = d->cache_head_len;
	s->route = d->cache_route;
	s->function = d->cache_function;
	if (head_len > HEAD_MAX)
		return REASON_TOO_LARGE;
	s->request_len = head_len + request_tail_len(&s->publish, payload_len) + payload_len;
	if (xdp && s->request_len > len + t->head_max)
		return REASON_HEADROOM;

	fn = bpf_map_lookup_elem(&functions, &s->function);
	if (!fn)
		return REASON_NO_SLOT;
	pod = pod_choose(fn);
	if (!pod)
		return REASON_NO_SLOT;
	if (pod->ipv6 != p->ipv6)
		return REASON_FAMILY;
	if (xdp && !pod->xdp_ok)
		return REASON_NO_XDP_TARGET;
	s->slot = slot_claim(pod);
	if (s->slot == NO_INDEX)
		return REASON_NO_SLOT;
	/* From here on the claimed slot must be given back on every way out. */
	slot = bpf_map_lookup_elem(&slots, &s->slot);
	sc = bpf_map_lookup_elem(&conns, &s->slot);
	if (!slot || !sc)
		return REASON_DEAD_SOCKET;
	if (!slot_alive(s->slot)) {
		/* the bit stays clear: userspace replaces the slot */
		event_simple(EVENT_SLOT, s->slot, sc->gen);
		return REASON_DEAD_SOCKET;
	}
	if (xdp && !segment_ok(ctx, xdp, p, c, slot)) {
		slot_set_idle(s->slot, slot);
		return REASON_BAD_CHECKSUM;
	}
	slot->count++;
	opaque(head_len);
	if (head_len > HEAD_MAX || bpf_probe_read_kernel(slot->buf, head_len, d->cache_head)) {
		slot_set_idle(s->slot, slot);
		return REASON_SLOT_WRITE;
	}
	at = request_tail(slot, head_len, &s->publish, payload_len);
	opaque(at);
	if (payload_len) {
		opaque(payload_len);
		if (at >= REQUEST_HEAD || payload_len > PAYLOAD_MAX || !payload_len ||
		    packet_load(ctx, xdp, p->payload + s->publish.payload, slot->buf + at, payload_len)) {
			slot_set_idle(s->slot, slot);
			return REASON_SLOT_WRITE;
		}
	}
	at = (at + payload_len) & 4095;
	if (at <= REQUEST_MAX - 8)
		*(__u64 *)(slot->buf + at) = 0; /* checksums are made of whole words */

	now = bpf_ktime_get_ns();
	reason = slot_begin(sc, slot, s, now);
	if (reason) {
		if (reason == REASON_DEAD_SOCKET)
			event_simple(EVENT_SLOT, s->slot, sc->gen);
		else
			slot_set_idle(s->slot, slot);
		return reason;
	}
	at = s->rx.graft.slot_seq;
	gen = s->rx.graft.slot_gen;

	/* Now the device's books, if nothing changed meanwhile. */
	one = p->seg;
	one.take = 1;
	one.len = len;
	bpf_spin_lock(&c->lock);
	recheck = c->gen == s->device_gen && c->state == CONN_OPEN && one.seq == c->rx_nxt &&
		  d->cache_version == s->cache_version && !ledger_full(&c->rx, d->inflight_max) &&
		  walk_at_boundary(&d->walk) && !(c->flags & (CONN_LOST | CONN_NO_TAKE | CONN_BROKEN));
	action = RX_DROP;
	if (recheck)
		action = conn_rx(c, &one, &s->rx, now / 1000000);
	if (action == RX_TAKE) {
		graft = ledger_at(&c->rx, (__u32)c->rx.count - 1);
		graft->slot = s->slot;
		graft->slot_gen = gen;
		graft->slot_seq = at;
		graft->packet_id = s->publish.packet_id;
		graft->qos = s->publish.qos;
		d->last_take_ns = now;
		d->taken++;
	}
	bpf_spin_unlock(&c->lock);
	if (action != RX_TAKE) {
		slot_undo(sc, slot, s->slot);
		return REASON_RACE;
	}
	return REASON_TAKEN;
}

/*
 * take_publish, with its result read back from memory: the verifier then knows
 * nothing of it, and follows what comes behind once instead of once per reason.
 */
static __always_inline enum reason take_try(void *ctx, bool xdp, struct take *t, struct scratch *s)
{
	s->bad = take_publish(ctx, xdp, t, s);
	return afresh(s->bad);
}

static __always_inline void count_taken(const struct scratch *s)
{
	__u32 route = s->route;
	struct route_stats *st = bpf_map_lookup_elem(&route_counters, &route);

	if (st)
		st->taken[s->publish.qos & 1]++;
}

#endif
