/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * trace.h - shows what becomes of single messages to who asks (mapsctl trace), and of those whose trace is sampled to who exports their
 * spans. While nobody does, a message costs a look at one word of the settings when it is taken and when it is answered. A message that is looked at is remembered
 * when it is taken, and shown when it is answered; one that the local socket gets is shown at once.
 * Every function but the first is one of its own, so that the verifier follows it once.
 */
#ifndef EPROXY_TRACE_TRACE_H
#define EPROXY_TRACE_TRACE_H

#include "../mech/verdict.h"
#include "../pure/trace_filter.h"
#include "../work/scratch.h"

/* For whom messages are looked at: TRACE_LOOK, TRACE_SPAN. */
static __always_inline __u32 tracing(void)
{
	struct globals *g = globals_get();

	return g ? *(volatile __u32 *)&g->tracing : 0;
}

static __always_inline struct tracing *tracing_get(void)
{
	__u32 only = 0;

	return bpf_map_lookup_elem(&tracings, &only);
}

/* Whether the connection is the client's that is asked for: its sender begins with that, and what follows is another line. */
static __always_inline bool trace_client(const struct tracing *t, const struct device *d)
{
	__u8 b = 0;

	if (!t->client_len)
		return true;
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < SENDER_MAX; i++)
	{
		b = afresh(d->sender[i]);
		if (i >= afresh(t->client_len))
			return b < 0x20;
		if (afresh(t->client[i]) != b)
			return false;
	}
	return true;
}

/*
 * Whether the message whose topic is in the hook's scratch (publish, look) is looked at, as far as is known before there is
 * a response; cut: its topic is longer. Returns 1 or 0.
 */
__attribute__((noinline)) int trace_wants(__u32 hook, __u32 conn, __u32 reason, __u32 cut)
{
	struct scratch *s = scratch_of(hook);
	struct device *d = device_entry(conn);
	struct tracing *t = tracing_get();

	if (!s || !d || !t)
		return 0;
	if (t->reason != TRACE_ANY && t->reason != reason)
		return 0;
	if (bpf_get_prandom_u32() > t->sample)
		return 0;
	return trace_client(t, d) && filter_matches(t, s->look, &s->publish, cut, &s->trace.pos);
}

/* Begins the record of a message whose topic is in the scratch; cut: it is longer. Returns 0, or -1. */
__attribute__((noinline)) int trace_begin(__u32 hook, __u32 reason, __u32 cut)
{
	struct scratch *s = scratch_of(hook);
	__u32 len, at;

	if (!s)
		return -1;
	memset(&s->trace.event, 0, sizeof(s->trace.event));
	s->trace.event.device = s->trace.key.device;
	s->trace.event.device_gen = s->trace.key.device_gen;
	s->trace.event.hook = hook;
	s->trace.event.reason = reason;
	s->trace.event.qos = s->publish.qos;
	s->trace.event.pod = NO_INDEX;
	s->trace.event.counter = NO_INDEX;
	len = s->publish.topic_len;
	at = s->publish.topic & 15;
	if (!len)
		return 0;
	opaque(len);
	if (!within(len, 1, TOPIC_MAX) || bpf_probe_read_kernel(s->trace.event.topic, len, s->look + at))
		return -1;
	s->trace.event.topic_len = len;
	s->trace.event.topic_cut = cut;
	return 0;
}

/* A message for which there is no room is counted. */
static __always_inline void trace_lost(void)
{
	struct tracing *t = tracing_get();

	if (t)
		__sync_fetch_and_add(&t->lost, 1);
}

/* Whether the message that the hook's scratch describes, which was taken for this reason, is one that is asked for. */
static __always_inline bool trace_looked(__u32 hook, struct scratch *s, __u32 reason)
{
	struct tracing *t = tracing_get();
	struct function *fn;

	if (!t || !(tracing() & TRACE_LOOK))
		return false;
	fn = bpf_map_lookup_elem(&functions, &s->routed.function);
	if (t->queue != NO_INDEX && (!fn || fn->queue != t->queue))
		return false;
	return trace_wants(hook, s->origin.index, reason, false);
}

/* The message that the hook's scratch describes was just taken, for this reason. Returns 0. */
__attribute__((noinline)) int trace_taken(__u32 hook, __u32 reason)
{
	struct scratch *s = scratch_of(hook);
	__u32 who = 0;

	if (!s)
		return 0;
	if (tracing() & TRACE_SPAN && s->draft.sampled)
		who |= TRACE_SPAN;
	if (trace_looked(hook, s, reason))
		who |= TRACE_LOOK;
	if (!who)
		return 0;
	s->trace.key.device = s->origin.index;
	s->trace.key.device_gen = s->origin.gen;
	s->trace.key.device_seq = s->origin.position;
	if (trace_begin(hook, reason, false))
		return 0;
	s->trace.event.who = who;
	memcpy(s->trace.event.trace, s->draft.trace, sizeof(s->draft.trace));
	memcpy(s->trace.event.span, s->draft.span, sizeof(s->draft.span));
	s->trace.event.counter = s->routed.counter;
	s->trace.event.ended_ns = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&traced, &s->trace.key, &s->trace.event, BPF_ANY))
		trace_lost();
	return 0;
}

/* The record in the hook's scratch is shown. */
static __always_inline void trace_show(const struct trace_event *e)
{
	struct trace_event *to = bpf_ringbuf_reserve(&traces, sizeof(*to), 0);

	if (!to) {
		trace_lost();
		return;
	}
	*to = *e;
	bpf_ringbuf_submit(to, 0);
}

/*
 * A pod has answered the n-th of the messages in the scratch of tc_pod_in: shown, if it was looked at when it was taken,
 * and its status is asked for. Returns 0.
 */
__attribute__((noinline)) int trace_answered(__u32 n)
{
	struct scratch *s = scratch_of(HOOK_TC_POD_IN);
	struct tracing *t = tracing_get();
	struct trace_event *e;
	struct message *m;

	if (!s || !t)
		return 0;
	n &= PIPELINE_MAX - 1;
	m = &s->outcomes.message[n];
	s->trace.key.device = m->origin;
	s->trace.key.device_gen = m->origin_gen;
	s->trace.key.device_seq = m->origin_position;
	e = bpf_map_lookup_elem(&traced, &s->trace.key);
	if (!e)
		return 0;
	e->status = 200 + s->outcomes.status[n];
	e->pod = s->answer.pod_counter;
	e->ended_ns = s->now_ns;
	e->waited_ns = m->waited_us * 1000ull;
	e->took_ns = s->now_ns - m->taken_ns + e->waited_ns;
	if (t->status && t->status != e->status)
		e->who &= ~TRACE_LOOK;
	if (e->who)
		trace_show(e);
	bpf_map_delete_elem(&traced, &s->trace.key);
	return 0;
}

/* Whether a message that is left for this reason begins where its segment does, so that its topic can be read. */
static __always_inline bool trace_readable(__u32 reason)
{
	return reason != REASON_TCP_FLAGS && reason != REASON_NOT_NEXT && reason != REASON_LOST_TRACK &&
	       reason != REASON_NOT_OPEN && reason != REASON_MULTI && reason != REASON_RACE;
}

/*
 * The message in front of what is left of the segment is not taken, for s->admit.refused. Which function would get it is not known
 * then: userspace, which knows the routes, leaves out what was not asked for. Returns 0.
 */
__attribute__((noinline)) int trace_left(struct __sk_buff *skb, __u32 conn)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	struct device *d = device_entry(conn);
	struct tracing *t = tracing_get();
	__u32 look, reason;
	bool cut = false;

	if (!s || !d || !t || t->status)
		return 0;
	reason = s->admit.refused;
	s->publish.topic_len = 0;
	s->publish.qos = 0;
	look = s->packet.seg.len < MQTT_LOOK ? s->packet.seg.len : MQTT_LOOK;
	if (trace_readable(reason) && within(look, 1, MQTT_LOOK)) {
		if (bpf_skb_load_bytes(skb, s->packet.payload, s->look, look))
			return 0;
		cut = publish_topic(s->look, look, &s->publish);
	}
	if (!trace_wants(HOOK_TC_DEVICE_IN, conn, reason, cut))
		return 0;
	s->trace.key.device = conn;
	s->trace.key.device_gen = d->gen;
	if (trace_begin(HOOK_TC_DEVICE_IN, reason, cut))
		return 0;
	s->trace.event.who = TRACE_LOOK;
	s->trace.event.ended_ns = bpf_ktime_get_ns();
	trace_show(&s->trace.event);
	return 0;
}

#endif
