/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * take.h - PUBLISH to request: eligibility, route, slot, ledger. The same for
 * XDP and TC; only reading the packet and sending the result differ.
 */
#ifndef EPROXY_TAKE_TAKE_H
#define EPROXY_TAKE_TAKE_H

#include "../admit/publish.h"
#include "../mech/flow.h"
#include "../route/route.h"
#include "../request/write.h"
#include "../trace/trace.h"
#include "../upstream/begin.h"
#include "copy.h"

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
 * The ledger of the device behind that of the slot: the message is taken, or the request is undone. far: it is done as
 * soon as it is taken.
 */
static __always_inline enum reason take_commit(void *ctx, bool xdp, struct take *t, struct scratch *s, struct conn *sc,
					       struct slot *slot, struct pod *pod, __u64 now, bool far)
{
	enum hook hook = xdp ? HOOK_XDP_DEVICE : HOOK_TC_DEVICE_IN;
	__u32 hold = HOLD_NONE;
	enum reason reason;

	if (s->routed.copy)
		reason = copy_account(ctx, xdp, s, s->claim.slot, far, &hold);
	else
		reason = take_settle(t->c, t->d, s, now, s->claim.slot, far, &hold);
	if (reason) {
		slot_undo(sc, slot, pod, s->claim.slot, s->claim.gen, s->claim.number, hook);
		return reason;
	}
	/* nobody looks at it before: the request has not left, and the slot is still claimed */
	slot_message(slot, s->claim.number)->hold = hold;
	slot_message(slot, s->claim.number)->early = far;
	return REASON_TAKEN;
}

/*
 * The request of the message whose head is in s->publish, made in the buffer of
 * the claimed slot s->claim.slot, and its ledger on both sides.
 */
static __always_inline enum reason take_into(void *ctx, bool xdp, struct take *t, struct scratch *s, struct pod *pod)
{
	struct order order = { .from = &s->origin,
			       .counter = s->routed.counter,
			       .len = s->draft.len,
			       .id = s->publish.packet_id,
			       .qos = s->publish.qos,
			       .hold = HOLD_NONE /* until the origin's ledger has it */ };
	enum hook hook = xdp ? HOOK_XDP_DEVICE : HOOK_TC_DEVICE_IN;
	struct slot *slot = slot_entry(s->claim.slot);
	struct conn *sc = conn_entry(s->claim.slot);
	enum reason reason;
	struct request *r;
	__u64 now;

	if (!slot || !sc)
		return REASON_DEAD_SOCKET;
	s->claim.gen = *(volatile __u32 *)&sc->gen;
	s->claim.number = slot_next(slot);
	r = request_buffer(s->claim.slot, s->claim.number);
	if (!r)
		return REASON_DEAD_SOCKET;
	if (!slot_alive(s->claim.slot)) {
		slot_retire(sc, slot, pod, s->claim.slot, s->claim.gen, hook);
		return REASON_DEAD_SOCKET;
	}
	if (xdp && !segment_ok(ctx, xdp, t->p, t->c, r))
		return REASON_BAD_CHECKSUM;
	slot->count++;
	reason = request_write(ctx, xdp, s, r, PARK_NONE, slot->id_prefix, slot->count);
	if (reason)
		return reason;
	now = bpf_ktime_get_ns();
	reason = slot_begin(hook, sc, slot, pod, &s->claim, &order, &s->frame, now);
	if (reason)
		return reason;
	attend(sc, s->claim.slot);
	/* XDP can send the device no acknowledgement beside the request */
	return take_commit(ctx, xdp, t, s, sc, slot, pod, now, !xdp && afresh(s->claim.far));
}

/*
 * Claims a slot for the message: s->claim.slot, of *to. The one that the device's latest message was given to, while some are
 * in flight, or one of a pod that can carry more than others.
 */
static __always_inline enum reason take_claim(bool xdp, struct take *t, struct scratch *s, const struct function *fn,
					      struct pod **to)
{
	enum hook hook = xdp ? HOOK_XDP_DEVICE : HOOK_TC_DEVICE_IN;
	struct packet *p = t->p;
	struct pod *pod = NULL;

	s->claim.slot = NO_INDEX;
	if (*(volatile __u16 *)&t->c->in_flight)
		pod = slot_follow(*(volatile __u32 *)&t->d->last_slot, s->routed.function, s->publish.qos,
				  &s->claim.slot);
	if (!pod)
		pod = pod_choose(hook, fn);
	if (!pod)
		return REASON_NO_SLOT;
	if (pod->ipv6 != p->ipv6 || (xdp && !pod->xdp_ok)) {
		if (s->claim.slot != NO_INDEX)
			slot_release(pod, s->claim.slot);
		return pod->ipv6 != p->ipv6 ? REASON_FAMILY : REASON_NO_XDP_TARGET;
	}
	if (s->claim.slot == NO_INDEX)
		s->claim.slot = slot_claim(hook, pod, t->conn, s->publish.qos, 0);
	if (s->claim.slot == NO_INDEX) {
		pod->denied_ms = bpf_ktime_get_ns() / 1000000;
		pod_wake(hook, pod); /* for who found the place that was only tried for */
		return REASON_NO_SLOT;
	}
	*to = pod;
	return REASON_TAKEN;
}

/* A message of an ordered route always waits: first for the one before, which may have ended already. */
static __always_inline enum reason take_in_line(bool xdp, __u32 conn)
{
	if (xdp)
		return REASON_ORDERED;
	return device_clear(conn) ? REASON_NO_SLOT : REASON_ORDER_UNKNOWN;
}

/*
 * Tries to take the first PUBLISH in this packet. On REASON_TAKEN the request is in
 * the buffer of s->claim.slot, its frame's headers are in s->frame, the ledger of both
 * connections have it, and the caller must send it. On REASON_NO_SLOT it may be parked (park.h).
 */
static __always_inline enum reason take_publish(void *ctx, bool xdp, struct take *t, struct scratch *s)
{
	enum hook hook = xdp ? HOOK_XDP_DEVICE : HOOK_TC_DEVICE_IN;
	struct globals *g = globals_get();
	struct conn *c = t->c;
	struct device *d = t->d;
	__u32 epoch, gen = c->gen;
	enum reason reason;
	struct function *fn;
	struct pod *pod;

	reason = admit_segment(g, c, d, t->p, xdp);
	if (reason || !g)
		return reason;
	reason = admit_publish(ctx, xdp, d, s, t->conn, gen);
	if (reason)
		return reason;
	s->origin.kind = ORIGIN_DEVICE;
	s->origin.index = t->conn;
	s->origin.gen = gen;
	s->origin.position = t->p->seg.seq;
	s->admit.version = *(volatile __u32 *)&d->cache_version;
	s->admit.rights = *(volatile __u32 *)&d->rights;
	/* Read before the roots, which a reload switches first: a head of the old routes is never kept under the new epoch. */
	epoch = *(volatile __u32 *)&g->epoch;
	reason = route_message(c, d, t->conn, s, epoch);
	if (reason)
		return reason;
	fn = bpf_map_lookup_elem(&functions, &s->routed.function);
	if (!fn)
		return REASON_NO_SLOT;
	reason = request_measure(xdp, fn, d, s);
	if (reason)
		return reason;
	if (xdp && s->draft.len > t->p->seg.len + t->head_max)
		return REASON_HEADROOM;
	if (s->routed.copy) {
		if (s->publish.properties &&
		    s->properties.read.alias) /* userspace gets it as it came, and may know another topic by then */
			return REASON_ALIAS;
		reason = copy_may(t->conn);
		if (reason)
			return reason;
	}
	if (s->routed.line)
		return take_in_line(xdp, t->conn);
	if (park_first(c, fn))
		return REASON_NO_SLOT;
	reason = take_claim(xdp, t, s, fn, &pod);
	if (reason)
		return reason;
	reason = take_into(ctx, xdp, t, s, pod);
	slot_release(pod, s->claim.slot);
	pod_wake(hook, pod);
	s->taking.queue = fn->queue;
	s->taking.vain = reason != REASON_TAKEN;
	return reason;
}

/*
 * take_publish, with its result read back from memory: the verifier then knows
 * nothing of it, and follows what comes behind once instead of once per reason.
 */
static __always_inline enum reason take_try(void *ctx, bool xdp, struct take *t, struct scratch *s)
{
	s->admit.refused = take_publish(ctx, xdp, t, s);
	return afresh(s->admit.refused);
}

/* The exit of a message that was taken, for this reason: it has a slot, or is parked. Counted, and shown to who looks. */
static __always_inline void message_taken(const struct scratch *s, enum hook hook, enum reason reason)
{
	struct route_stats *st = route_stats_entry(s->routed.counter);
	__u32 who = tracing();

	count(hook, reason);
	if (st)
		st->taken[s->publish.qos & 1]++;
	if (who & TRACE_LOOK || (who & TRACE_SPAN && s->draft.sampled))
		trace_taken(hook, reason);
}

#endif
