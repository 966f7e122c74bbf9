/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* sweep_conn.h - the sweeper looks at one connection. */
#ifndef EPROXY_CONTROL_SWEEP_CONN_H
#define EPROXY_CONTROL_SWEEP_CONN_H

#include "../mech/attention.h"
#include "../mech/event.h"
#include "../upstream/slot.h"
#include "../work/scratch.h"

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

#endif
