/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * sweep.h - what no packet brings about: acknowledgements that nothing carries,
 * PUBACKs that got lost, requests without a response. A timer looks through the
 * connections that may need it (attention.h), and stops while there are none;
 * userspace is woken only for what is found.
 */
#include "../include/park.h"
#include "../include/skb.h"

#ifndef CLOCK_MONOTONIC
#define CLOCK_MONOTONIC 1
#endif

/* Milliseconds between two ticks of a pass. */
#define SWEEP_PAUSE_MS 2
/* Milliseconds after which a bare ACK is sent where no segment carries the acknowledgement (as Linux' TCP_DELACK_MIN). */
#define SWEEP_ACK_MS   40

/*
 * Notes that the connection's oldest PUBACK, or request, is due before the pass after the next
 * looks at it. The list is this timer's alone. If it is full that waits for a pass.
 */
static __always_inline void tail_add(struct sweeper *w, __u32 conn, __u32 due_ms)
{
	__u32 n = w->count;

	if (n >= SWEEP_TAILS)
		return;
	w->tails[n & (SWEEP_TAILS - 1)].conn = conn;
	w->tails[n & (SWEEP_TAILS - 1)].due_ms = due_ms;
	if (!n || (__s32)(due_ms - w->tail_ms) < 0)
		w->tail_ms = due_ms;
	w->count = n + 1;
}

/*
 * What is the matter with a slot. A look without the lock: userspace makes sure. Returns 0.
 * A function of its own, as the next ones, so that the verifier follows it once.
 */
__attribute__((noinline)) int sweep_slot(__u32 index, __u32 now_ms)
{
	struct slot *slot = slot_entry(index);
	struct conn *c = conn_entry(index);
	struct pod *pod;
	__u32 key;

	if (!slot || !c)
		return 0;
	key = slot->pod;
	pod = bpf_map_lookup_elem(&pods, &key);
	if (!pod)
		return 0;
	pod_wake(HOOK_CONTROL, pod);
	if (slot->state == SLOT_RETIRED && c->state != CONN_FREE)
		event_simple(HOOK_CONTROL, EVENT_SLOT, index, c->gen);
	if (slot_stalled(slot, pod, now_ms) && event_simple(HOOK_CONTROL, EVENT_STALLED, index, c->gen))
		slot->stalled = 1;
	if (!slot_in_flight(slot))
		return 0;
	pod_rouse(HOOK_CONTROL, pod); /* where that event was lost */
	if (slot_overdue(slot, pod, now_ms))
		event_simple(HOOK_CONTROL, EVENT_OVERDUE, index, c->gen);
	if (slot_trial_overdue(slot, pod, now_ms))
		event_simple(HOOK_CONTROL, EVENT_TRIAL, index, c->gen);
	return 0;
}

/* What a look at a queue works with. */
struct sweep_queue {
	__u32 queue;
	__u32 family;
	__u32 before_ms;
	__u32 now_ms;
	bool old;
};

static long sweep_old_step(__u64 index, void *data)
{
	struct sweep_queue *x = data;
	struct queue *q = queue_entry(x->queue);
	__u32 family = x->family, before_ms = x->before_ms;
	struct parking *k = parking_get();
	bool old;

	if (!q || !k)
		return 1;
	bpf_spin_lock(&k->lock);
	old = parking_old(k, q, family, before_ms);
	bpf_spin_unlock(&k->lock);
	x->old = old;
	return old;
}

/*
 * Looks at the messages that wait in a queue: userspace is called if one of them has waited too
 * long, or none of a family has left since the last look. Returns whether there are any, 1 or 0.
 */
__attribute__((noinline)) int sweep_parked(__u32 queue, __u32 now_ms)
{
	struct sweep_queue x = { .queue = queue };
	struct parking *k = parking_get();
	struct queue *q = queue_entry(queue);
	bool stuck = false;
	__u32 any;

	if (!q || !k)
		return 0;
	bpf_spin_lock(&k->lock);
	any = q->count;
	for (__u32 f = 0; f < PARK_FAMILIES; f++) {
		stuck |= q->first_turn[f] && q->looked[f] == q->popped[f];
		q->looked[f] = q->popped[f];
	}
	bpf_spin_unlock(&k->lock);
	x.before_ms = now_ms - q->handover_ms;
	/* each look is at some of the clients: so many are at all of them */
	for (x.family = 0; x.family < PARK_FAMILIES && !afresh(x.old) && !stuck; x.family++)
		bpf_loop(any / TURNS_MAX + 1, sweep_old_step, &x, 0);
	if (afresh(x.old) || stuck)
		event_simple(HOOK_CONTROL, EVENT_PARKED, queue, 0);
	return any ? 1 : 0;
}

/*
 * Whether a connection is to be looked at again: a slot that has requests in flight, or
 * whose end userspace may not have been told of for want of room among the events; a
 * device that has not acknowledged a PUBACK, or is to be aborted; a peer that is owed an
 * acknowledgement. Under the lock.
 */
static __always_inline bool sweep_again(struct conn *c, const struct slot *slot)
{
	if (slot && (slot_in_flight(slot) || (slot->state == SLOT_RETIRED && c->state != CONN_FREE)))
		return true;
	if (c->state != CONN_OPEN)
		return false;
	if (c->kind == CONN_DEVICE && (c->tx.count || (c->flags & CONN_BROKEN)))
		return true;
	return seq_gt(conn_ack(c), c->rx_acked);
}

/* The frame's addresses, and behind them its VLAN tag. */
static __always_inline void sweep_tag(__u8 *to, const struct frame *f)
{
	__be16 tag[2] = { bpf_htons(ETH_P_8021Q), bpf_htons(f->vlan_tci) };

	memcpy(to, &f->eth, 2 * ETH_ALEN);
	memcpy(to + 2 * ETH_ALEN, tag, sizeof(tag));
}

/* Copies the frame from byte `skip` on to the same place, with room for all that can be its payload. */
static __always_inline void sweep_copy(__u8 *to, struct scratch *s, const __u32 skip)
{
	if (s->frame.ipv6) {
		memcpy(to + skip, (__u8 *)&s->frame.eth + skip, FRAME_V6 - skip);
		memcpy(to + FRAME_V6, s->pubacks.bytes, PUBACKS_MAX);
	} else {
		memcpy(to + skip, (__u8 *)&s->frame.eth + skip, FRAME_V4 - skip);
		memcpy(to + FRAME_V4, s->pubacks.bytes, PUBACKS_MAX);
	}
}

/* Has userspace send the segment in the control hook's scratch, with the PUBACKs that are there. Returns 0. */
__attribute__((noinline)) int sweep_send(__u32 index, __u32 gen)
{
	struct scratch *s = scratch_of(HOOK_CONTROL);
	struct event *e;
	__u32 n;

	if (!s)
		return 0;
	n = s->pubacks.len;
	frame_checksum(&s->frame, false, n ? s->pubacks.sum : 0);
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) { /* the next pass tries again: peers repeat what is not acknowledged */
		count(HOOK_CONTROL, REASON_EVENT_LOST);
		return 0;
	}
	e->kind = EVENT_SEND;
	e->conn = index;
	e->gen = gen;
	e->packet_id = 0;
	e->qos = 0;
	e->ifindex = s->frame.ifindex;
	e->hold = HOLD_NONE;
	e->frame_len = s->frame.len + n;
	if (s->frame.vlan_tci) {
		sweep_tag(e->frame, &s->frame);
		sweep_copy(e->frame + sizeof(struct vlan_tag), s, 2 * ETH_ALEN);
		e->frame_len += sizeof(struct vlan_tag);
	} else {
		sweep_copy(e->frame, s, 0);
	}
	bpf_ringbuf_submit(e, 0);
	count(HOOK_CONTROL, n ? REASON_PUBACK_RESENT : REASON_ACK_SWEPT);
	return 0;
}

/*
 * Looks at one connection: PUBACKs and requests never acknowledged, an acknowledgement never sent, and
 * what its slot needs. Returns whether it is to be looked at again, 1 or 0.
 */
__attribute__((noinline)) int sweep_conn(__u32 index, __u32 now_ms)
{
	__u32 gen = 0, n = 0, due_ms = now_ms, only = 0;
	struct sweeper *w = bpf_map_lookup_elem(&sweepers, &only);
	struct scratch *s = scratch_of(HOOK_CONTROL);
	struct conn *c = conn_entry(index);
	struct slot *slot = NULL;
	struct stamp stamp;
	bool send = false, lost = false;
	int again;

	if (!w || !s || !c)
		return 0;
	if (index < knob_slots) {
		sweep_slot(index, now_ms);
		slot = slot_entry(index);
	}
	s->pubacks.len = 0;
	bpf_spin_lock(&c->lock);
	if (c->state == CONN_OPEN) {
		gen = c->gen;
		if (c->kind == CONN_DEVICE && c->tx.count)
			due_ms = loss_overdue(c, now_ms, knob_puback_ms, &s->pubacks);
		if (slot) {
			due_ms = slot_due(c, slot, now_ms);
			lost = (__s32)(due_ms - now_ms) <= 0;
		}
		n = afresh(s->pubacks.len);
		send = n || (seq_gt(conn_ack(c), c->rx_acked) && (__s32)(now_ms - c->last_ms) >= SWEEP_ACK_MS);
		if (send) {
			conn_stamp(c, &stamp);
			if (n)
				stamp.seq = s->pubacks.seq;
			frame_fill(&s->frame, c, &stamp, n ? TH_ACK | TH_PSH : TH_ACK, n);
		}
	}
	c->attended = sweep_again(c, slot);
	again = afresh(c->attended);
	bpf_spin_unlock(&c->lock);
	if (c->state == CONN_OPEN && c->kind == CONN_DEVICE && (c->flags & CONN_BROKEN))
		event_simple(HOOK_CONTROL, EVENT_BROKEN, index, c->gen); /* the first time may have been lost */
	if ((__s32)(due_ms - now_ms) > 0 && (__s32)(due_ms - now_ms) < SWEEP_MS + SWEEP_MS / 2)
		tail_add(w, index, due_ms);
	if (lost)
		event_simple(HOOK_CONTROL, EVENT_LOST, index,
			     gen); /* a timer has no packet that could carry the request */
	if (send)
		sweep_send(index, gen);
	return again;
}

/* What a loop over connections works with; the rest is in the sweeper, where the verifier knows nothing of it. */
struct sweep_ctx {
	struct sweeper *w;
	__u32 now_ms;
	__u32 pad;
};

/*
 * Looks at the next connection of the range [at, end) whose bit is set, or finds none in its
 * word. The bit is cleared before the look, and set again behind it if need be: both are full
 * barriers.
 */
static long sweep_step(__u64 i, void *data)
{
	struct sweep_ctx *ctx = data;
	struct sweeper *w = ctx->w;
	__u32 at = w->at, word = at / 64, conn;
	__u64 *bits = bpf_map_lookup_elem(&attention, &word), set, bit, old;

	if (at >= w->end || !w->budget)
		return 1;
	set = bits ? *(volatile __u64 *)bits & ~0ull << (at & 63) : 0;
	if (!bits || !set) {
		w->at = (word + 1) * 64;
		return 0;
	}
	bit = set & -set;
	conn = word * 64 + popcount64(bit - 1);
	w->at = conn + 1;
	if (conn >= w->end)
		return 1;
	w->budget--;
	w->found++;
	old = __sync_fetch_and_and(bits, ~bit);
	opaque(old);
	if (sweep_conn(conn, ctx->now_ms)) {
		old = __sync_fetch_and_or(bits, bit);
		opaque(old);
	}
	return 0;
}

/* Looks at connections of the range [at, end), as many as the budget allows. Returns where to go on: not below end when done. */
static __always_inline __u32 sweep(struct sweep_ctx *ctx, __u32 at, __u32 end)
{
	struct sweeper *w = ctx->w;

	w->at = at;
	w->end = end;
	if (at < end)
		bpf_loop((end - at) / 64 + w->budget + 2, sweep_step, ctx, 0);
	return w->at;
}

/* A connection in the list of tails: its time has come, or it stays in the list, which begins anew and is never longer than what was looked at. */
static long tail_step(__u64 index, void *data)
{
	struct sweep_ctx *ctx = data;
	struct tail tail = ctx->w->tails[index & (SWEEP_TAILS - 1)];

	if ((__s32)(tail.due_ms - ctx->now_ms) > 0)
		tail_add(ctx->w, tail.conn, tail.due_ms);
	else
		sweep(ctx, tail.conn, tail.conn + 1);
	return 0;
}

/* Of the pass that is under way, as many connections as one tick has budget for. */
static __always_inline void sweep_part(struct sweep_ctx *ctx, const struct globals *g)
{
	struct sweeper *w = ctx->w;
	__u32 next = w->next;

	w->budget = knob_sweep;
	if (!next)
		w->found = 0;
	if (next < knob_slots) {
		next = sweep(ctx, next, g->slots_end);
		if (next >= g->slots_end)
			next = knob_slots;
	}
	if (next >= knob_slots) {
		next = sweep(ctx, next, g->conns_end);
		if (next >= g->conns_end) {
			next = 0;
			w->pass_ms = ctx->now_ms + SWEEP_MS;
		}
	}
	w->next = next;
}

/*
 * Looks at one queue, if its bit is set: that is cleared before the look, and set again behind it
 * if need be. Both are full barriers.
 */
static long sweep_queue_step(__u64 index, void *data)
{
	struct sweep_ctx *ctx = data;
	__u32 at = ctx->w->word & (QUEUES_MAX / 64 - 1), bit = index & 63;
	struct parking *k = parking_get();
	__u64 old;

	if (!k || !(*(volatile __u64 *)&k->attended[at] >> bit & 1))
		return 0;
	ctx->w->queues++;
	old = __sync_fetch_and_and(&k->attended[at], ~(1ull << bit));
	opaque(old);
	if (sweep_parked(at * 64 + bit, ctx->now_ms)) {
		old = __sync_fetch_and_or(&k->attended[at], 1ull << bit);
		opaque(old);
	}
	return 0;
}

static long sweep_queues_step(__u64 index, void *data)
{
	struct sweep_ctx *ctx = data;
	__u32 at = index & (QUEUES_MAX / 64 - 1);
	struct parking *k = parking_get();

	if (!k || !*(volatile __u64 *)&k->attended[at])
		return 0;
	ctx->w->word = at;
	bpf_loop(64, sweep_queue_step, ctx, 0);
	return 0;
}

/* Looks at the queues, when their time has come: however long a pass over the connections takes. */
static __always_inline void sweep_queues(struct sweep_ctx *ctx)
{
	struct sweeper *w = ctx->w;

	if ((__s32)(w->queues_ms - ctx->now_ms) > 0)
		return;
	w->queues = 0;
	w->queues_ms = ctx->now_ms + SWEEP_MS;
	bpf_loop(QUEUES_MAX / 64, sweep_queues_step, ctx, 0);
}

/* Looks for a bit that is set. */
struct attention_ctx {
	bool any;
};

static long attention_step(__u64 word, void *data)
{
	struct attention_ctx *ctx = data;
	__u32 key = word;
	__u64 *bits = bpf_map_lookup_elem(&attention, &key);

	ctx->any = bits && *(volatile __u64 *)bits;
	return ctx->any;
}

static long attention_queues_step(__u64 word, void *data)
{
	struct attention_ctx *ctx = data;
	struct parking *k = parking_get();

	ctx->any = k && *(volatile __u64 *)&k->attended[word & (QUEUES_MAX / 64 - 1)];
	return ctx->any;
}

/*
 * After a whole pass that has found no connection, with no message that waits, the timer stops, unless a bit was set
 * meanwhile (attention.h). Returns whether it has stopped, or somebody else started it again.
 */
static __always_inline bool sweep_stop(struct sweeper *w, const struct globals *g)
{
	__u32 end = g->conns_end > g->slots_end ? g->conns_end : g->slots_end, old;
	struct attention_ctx ctx = {};

	if (w->next || w->found || w->count || w->queues)
		return false;
	old = __sync_fetch_and_or(&w->stopped, 1);
	opaque(old);
	bpf_loop(end / 64 + 1, attention_step, &ctx, 0);
	if (!afresh(ctx.any))
		bpf_loop(QUEUES_MAX / 64, attention_queues_step, &ctx, 0);
	return !ctx.any || !__sync_fetch_and_and(&w->stopped, 0);
}

/* Milliseconds until the next tick. */
static __always_inline __u32 sweep_wait(const struct sweeper *w, __u32 now_ms)
{
	__s32 wait = w->next ? SWEEP_PAUSE_MS : (__s32)(w->pass_ms - now_ms);

	if (w->count && (__s32)(w->tail_ms - now_ms) < wait)
		wait = w->tail_ms - now_ms;
	if (w->queues && (__s32)(w->queues_ms - now_ms) < wait)
		wait = w->queues_ms - now_ms;
	return wait < 1 ? 1 : wait > SWEEP_MS ? SWEEP_MS : wait;
}

/*
 * The timer's tick: PUBACKs that are due, then a part of a pass, if one is under
 * way or its time has come. Nothing starts the next tick after a pass that has found nothing
 * to do, but the next bit that is set. What is recorded as sent must not be lost among too many
 * events: then everything waits for another pass.
 */
static int sweep_tick(void *map, __u32 *key, struct sweeper *w)
{
	__u32 now_ms = bpf_ktime_get_ns() / 1000000, count = w->count;
	struct sweep_ctx ctx = { .w = w, .now_ms = now_ms };
	struct globals *g = globals_get();

	if (!g)
		return 0;
	w->count = 0;
	sweep_queues(&ctx);
	if (bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > bpf_ringbuf_query(&events, BPF_RB_RING_SIZE) / 2) {
		w->next = 0;
		w->pass_ms = now_ms + SWEEP_MS;
	} else {
		w->budget = count;
		bpf_loop(count, tail_step, &ctx, 0);
		if (w->next || (__s32)(w->pass_ms - now_ms) <= 0) {
			sweep_part(&ctx, g);
			if (sweep_stop(w, g))
				return 0;
		}
	}
	bpf_timer_start(&w->timer, (__u64)sweep_wait(w, now_ms) * 1000000, 0);
	return 0;
}

#define EBUSY 16

/*
 * Starts the timer (CLOCK_MONOTONIC). It ends with the map, which is not pinned:
 * with the process that loaded it. Returns 0 or a negative errno: memory for a
 * timer is had without waiting, so that there may be none at the moment (-ENOMEM;
 * __bpf_async_init, kernel/bpf/helpers.c); it may be called again then.
 */
SEC("syscall")
int sweep_start(void *ctx)
{
	__u32 zero = 0;
	struct sweeper *w = bpf_map_lookup_elem(&sweepers, &zero);
	long err;

	if (!w)
		return -1;
	err = bpf_timer_init(&w->timer, &sweepers, CLOCK_MONOTONIC);
	if (err && err != -EBUSY) /* it is there already */
		return err;
	err = bpf_timer_set_callback(&w->timer, sweep_tick);
	if (err)
		return err;
	w->pass_ms = bpf_ktime_get_ns() / 1000000;
	return bpf_timer_start(&w->timer, (__u64)SWEEP_MS * 1000000, 0);
}
