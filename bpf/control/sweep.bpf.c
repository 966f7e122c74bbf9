/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * sweep.bpf.c - what no packet brings about: acknowledgements that nothing carries,
 * PUBACKs that got lost, requests without a response. A timer looks through the
 * connections that may need it (attention.h), and stops while there are none;
 * userspace is woken only for what is found.
 */
#include "sweep_conn.h"
#include "sweep_queue.h"

#ifndef CLOCK_MONOTONIC
#define CLOCK_MONOTONIC 1
#endif

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
