/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * take.h - PUBLISH to request: eligibility, route, slot, ledger. The same for
 * XDP and TC; only reading the packet and sending the result differ.
 */
#ifndef EPROXY_TAKE_TAKE_H
#define EPROXY_TAKE_TAKE_H

#include "../admit/account.h"
#include "../mech/flow.h"
#include "../route/route.h"
#include "message.h"
#include "../trace/trace.h"
#include "../upstream/begin.h"

/* What is to be taken: the message at the front of a packet. */
struct take {
	struct packet *p;
	struct conn *c;
	struct device *d;
	__u32 conn;
	__u32 head_max; /* XDP: bytes by which the packet may grow */
	__u32 pad;
};

/* Whether the segment's TCP checksum is right. The claimed request buffer is the work space. */
static __always_inline bool segment_ok(void *ctx, bool xdp, const struct packet *p, const struct conn *c,
				       struct request *r)
{
	__u32 len = sizeof(struct tcphdr) + p->seg.len;
	__u32 sum = c->pseudo_sum + bpf_htons(len);

	if (!within(len, sizeof(struct tcphdr), REQUEST_MAX - 8))
		return false;
	if (packet_load(ctx, xdp, p->l4, r->buf, len))
		return false;
	*(__u64 *)(r->buf + len) = 0;
	sum = (sum & 0xffff) + (sum >> 16);
	return csum_fold(buffer_sum(r->buf, len, sum)) == 0;
}

/* Whether messages of the function wait already, or so many of this device are open: one more waits, too. */
static __always_inline bool park_first(const struct conn *c, const struct function *fn)
{
	struct queue *q = queue_entry(fn->queue);

	return *(volatile __u16 *)&c->rx.open >= OPEN_MAX || (q && *(volatile __u32 *)&q->count);
}

/*
 * The request of the message whose head is in s->publish, made in the buffer of
 * the claimed slot s->slot, and its ledger on both sides.
 */
static __always_inline enum reason take_into(void *ctx, bool xdp, struct take *t, struct scratch *s, struct pod *pod,
					     __u32 len)
{
	struct slot *slot = slot_entry(s->slot);
	struct conn *c = t->c, *sc = conn_entry(s->slot);
	enum hook hook = xdp ? HOOK_XDP_DEVICE : HOOK_TC_DEVICE_IN;
	__u32 gen, hold = HOLD_NONE;
	struct device *d = t->d;
	struct id_table *ids;
	enum reason reason;
	struct graft *graft;
	struct request *r;
	bool taken, far;
	__u64 now;

	if (!slot || !sc)
		return REASON_DEAD_SOCKET;
	gen = *(volatile __u32 *)&sc->gen;
	s->number = slot_next(slot);
	r = request_buffer(s->slot, s->number);
	if (!r)
		return REASON_DEAD_SOCKET;
	if (!slot_alive(s->slot)) {
		slot_retire(sc, slot, pod, s->slot, gen, hook);
		return REASON_DEAD_SOCKET;
	}
	if (xdp && !segment_ok(ctx, xdp, t->p, c, r))
		return REASON_BAD_CHECKSUM;
	slot->count++;
	reason = take_request(ctx, xdp, s, r, PARK_NONE, slot->id_prefix, slot->count);
	if (reason)
		return reason;

	now = bpf_ktime_get_ns();
	reason = slot_begin(hook, sc, slot, pod, s, gen, now);
	if (reason)
		return reason;
	attend(sc, s->slot);

	ids = device_table(d);
	far = !xdp && afresh(s->far); /* XDP can send the device no acknowledgement beside the request */
	bpf_spin_lock(&c->lock);
	graft = take_account(c, d, ids, s, len, now, &hold);
	taken = graft != NULL;
	if (graft) {
		if (far)
			ledger_removed(&c->rx);
		else
			graft->who = s->slot;
		d->last_slot = s->slot;
	}
	bpf_spin_unlock(&c->lock);
	if (!taken) {
		slot_undo(sc, slot, pod, s->slot, gen, s->number, hook);
		return REASON_RACE;
	}
	/* nobody looks at it before: the request has not left, and the slot is still claimed */
	slot_message(slot, s->number)->hold = hold;
	slot_message(slot, s->number)->early = far;
	return REASON_TAKEN;
}

/*
 * Tries to take the first PUBLISH in this packet. On REASON_TAKEN the request is in
 * the buffer of s->slot, its frame's headers are in s->frame, the ledger of both
 * connections have it, and the caller must send it. On REASON_NO_SLOT it may be parked (park.h).
 */
static __always_inline enum reason take_publish(void *ctx, bool xdp, struct take *t, struct scratch *s)
{
	struct packet *p = t->p;
	struct conn *c = t->c;
	struct device *d = t->d;
	__u32 len = p->seg.len, look, payload_len, gen = c->gen;
	enum hook hook = xdp ? HOOK_XDP_DEVICE : HOOK_TC_DEVICE_IN;
	struct globals *g = globals_get();
	enum reason reason;
	struct function *fn;
	struct pod *pod;
	__u32 epoch;

	if (!g || g->draining || c->state != CONN_OPEN || (c->flags & (CONN_BROKEN | CONN_NO_TAKE)))
		return REASON_NOT_OPEN;
	if (!p->plain || (p->seg.flags & (TH_SYN | TH_FIN | TH_RST | TH_URG)))
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

	look = len < MQTT_LOOK ? len : MQTT_LOOK;
	s->publish.length = 0;
	if (!within(look, 2, MQTT_LOOK))
		return REASON_PARTIAL;
	if (message_look(ctx, xdp, s, look))
		return REASON_LOAD_ERROR;
	reason = mqtt_publish(s->look, len, d->version, &s->publish);
	if (reason)
		return reason;
	if (s->publish.length < len) {
		if (xdp)
			return REASON_MULTI;
		len = s->publish.length;
	}
	payload_len = s->publish.length - s->publish.payload;
	if (payload_len > PAYLOAD_MAX)
		return REASON_TOO_LARGE;
	if (s->publish.qos && !device_id_room(t->conn, gen, s->publish.packet_id))
		return REASON_RING_FULL;

	/* The head: from the connection's cache, or made now. */
	s->device = t->conn;
	s->device_gen = gen;
	s->device_seq = p->seg.seq;
	s->cache_version = *(volatile __u32 *)&d->cache_version;
	s->rights = *(volatile __u32 *)&d->rights;
	/* Read before the roots, which a reload switches first: a head of the old routes is never kept under the new epoch. */
	epoch = *(volatile __u32 *)&g->epoch;
	reason = route_message(c, d, t->conn, s, epoch);
	if (reason)
		return reason;
	fn = bpf_map_lookup_elem(&functions, &s->function);
	if (!fn)
		return REASON_NO_SLOT;
	s->head_len = request_head_len(fn, d, s);
	if (s->head_len > HEAD_MAX)
		return REASON_TOO_LARGE;
	s->request_len = s->head_len + request_tail_len(&s->publish, payload_len) + payload_len;
	if (xdp && s->request_len > p->seg.len + t->head_max)
		return REASON_HEADROOM;
	if (park_first(c, fn))
		return REASON_NO_SLOT;
	s->slot = NO_INDEX;
	pod = slot_follow(c, d, s->function, s->publish.qos, &s->slot);
	if (!pod)
		pod = pod_choose(hook, fn);
	if (!pod)
		return REASON_NO_SLOT;
	if (pod->ipv6 != p->ipv6 || (xdp && !pod->xdp_ok)) {
		if (s->slot != NO_INDEX)
			slot_release(pod, s->slot);
		return pod->ipv6 != p->ipv6 ? REASON_FAMILY : REASON_NO_XDP_TARGET;
	}
	if (s->slot == NO_INDEX)
		s->slot = slot_claim(hook, pod, t->conn, s->publish.qos, 0);
	if (s->slot == NO_INDEX) {
		pod->denied_ms = bpf_ktime_get_ns() / 1000000;
		pod_wake(hook, pod); /* for who found the place that was only tried for */
		return REASON_NO_SLOT;
	}
	reason = take_into(ctx, xdp, t, s, pod, len);
	slot_release(pod, s->slot);
	pod_wake(hook, pod);
	s->queue = fn->queue;
	s->vain = reason != REASON_TAKEN;
	return reason;
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

/* Counts a message that was taken, for this reason: it has a slot, or is parked. */
static __always_inline void count_taken(const struct scratch *s, enum hook hook, enum reason reason)
{
	struct route_stats *st = route_stats_entry(s->counter);

	count(hook, reason);
	if (st)
		st->taken[s->publish.qos & 1]++;
	if (tracing())
		trace_taken(hook, reason);
}

#endif
