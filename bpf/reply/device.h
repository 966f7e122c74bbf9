/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* device.h - what a device gets: its message is done in its ledger, and acknowledged. */
#ifndef EPROXY_REPLY_DEVICE_H
#define EPROXY_REPLY_DEVICE_H

#include "../mech/attention.h"
#include "../mech/event.h"
#include "../pure/ids.h"
#include "notice.h"

/* A PUBACK that could not be inserted goes to userspace, which writes it on the socket. */
static __always_inline bool puback_hand(const struct message *m)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		count(HOOK_TC_POD_IN, REASON_EVENT_LOST);
		return false;
	}
	e->kind = EVENT_PUBACK;
	e->conn = m->origin;
	e->gen = m->origin_gen;
	e->packet_id = m->packet_id;
	e->qos = m->qos;
	e->frame_len = 0;
	e->ifindex = 0;
	e->hold = m->hold;
	bpf_ringbuf_submit(e, 0);
	return true;
}

/* Nobody would ever ask for a PUBACK that got lost here: the device must send again on a new connection. */
static __always_inline void device_break(struct conn *dc, __u32 gen)
{
	bpf_spin_lock(&dc->lock);
	if (dc->gen == gen)
		dc->flags |= CONN_BROKEN;
	bpf_spin_unlock(&dc->lock);
	count(HOOK_TC_POD_IN, REASON_BROKEN);
}

/*
 * A device's ledger: the message is done. Its notice is added to s->notice,
 * which is empty or this device's. A message whose packet identifier another one
 * has by now gets no PUBACK: it would be taken for the other one's.
 */
static __always_inline void device_notify(struct scratch *s, struct conn *dc, struct device *d, const struct message *m,
					  bool answered)
{
	__u32 now_ms = s->now_ns / 1000000, now_us = s->now_ns / 1000, notified, dups, word;
	bool known = false, handed = false;
	struct id_table *ids = device_table(d);
	struct notice *t = &s->notice;
	struct stamp stamp;
	struct graft *g;

	if (!ids)
		return;
	bpf_spin_lock(&dc->lock);
	if (dc->gen == m->origin_gen && conn_live(dc)) {
		conn_done(dc, s->answer.slot, m->origin_position);
		known = true;
		if (answered && dc->in_flight)
			dc->in_flight--;
		notified = dc->rx_acked;
		if (!answered || !m->qos || !ids_held(&d->ids, ids, m->hold)) {
			conn_bare(dc, &stamp, now_us);
		} else if (conn_crossing(dc, now_us) || !conn_can_insert(dc, 4) ||
			   (t->len && dc->tx_nxt != t->seq + t->len)) {
			handed = true;
		} else {
			ids_release(&d->ids, ids, m->hold);
			conn_stamp(dc, &stamp);
			g = conn_insert(dc, 4, now_ms);
			puback_sent(g, m->packet_id, now_ms);
			word = puback_word(g);
			if (!t->len) {
				t->seq = stamp.seq;
				dc->notified_seq = stamp.seq;
			}
			dc->notified_us = now_us;
			memcpy(t->bytes + (t->len & (PUBACKS_MAX - 4)), &word, 4);
			t->len += 4;
		}
		dups = conn_dups(dc);
		if (handed && dups)
			conn_bare(dc, &stamp, now_us);
		/* while an older message is open there is nothing to notify of without a PUBACK */
		if (dups || (!handed && (t->len || t->device != NO_INDEX || stamp.ack != notified))) {
			if (t->len)
				stamp.seq = t->seq;
			t->seq = stamp.seq;
			t->dups += dups;
			frame_fill(&t->frame, dc, &stamp, t->len ? TH_ACK | TH_PSH : TH_ACK, t->len);
			t->device = m->origin;
			t->device_gen = m->origin_gen;
		}
	}
	bpf_spin_unlock(&dc->lock);
	if (!known) {
		count(HOOK_TC_POD_IN, REASON_DEVICE_GONE);
	} else if (handed) {
		count(HOOK_TC_POD_IN, REASON_PUBACK_HANDED);
		if (!puback_hand(m))
			device_break(dc, m->origin_gen);
	} else {
		count(HOOK_TC_POD_IN, answered ? REASON_RESPONSE : REASON_DONE_BY_ACK);
	}
}

/* The request of a device's message has reached its pod: it may be acknowledged to the device, when something else is sent. */
static __always_inline void device_mark(struct conn *dc, const struct message *m, __u32 slot)
{
	bpf_spin_lock(&dc->lock);
	if (dc->gen == m->origin_gen)
		conn_done(dc, slot, m->origin_position);
	bpf_spin_unlock(&dc->lock);
}

/* What becomes of a device's message. Its notice waits for more of the same device. */
static __always_inline void device_outcome(struct __sk_buff *skb, struct scratch *s, const struct message *m,
					   __u32 kind)
{
	__u32 device = m->origin;
	struct device *d = device_entry(device);
	struct conn *dc = conn_entry(device);

	if (!dc || !d)
		return;
	if (kind == DONE_MARKED) {
		device_mark(dc, m, s->answer.slot);
		attend(dc, device);
		return;
	}
	if (s->notice.device != NO_INDEX &&
	    (s->notice.device != m->origin || s->notice.device_gen != m->origin_gen || s->notice.len >= PUBACKS_MAX))
		notice_flush(skb, s);
	device_notify(s, dc, d, m, kind == DONE_RESPONSE);
	attend(dc, device);
}

/*
 * A device's message is userspace's now, which finishes it: it is one less in flight here. slot: whose it was, which
 * answers for it no more; NO_INDEX: it waited, and was done in the device's ledger already.
 */
static __always_inline void device_leave(const struct message *m, __u32 slot)
{
	__u32 device = m->origin;
	struct conn *dc = conn_entry(device);

	if (!dc)
		return;
	bpf_spin_lock(&dc->lock);
	if (dc->gen == m->origin_gen) {
		if (slot != NO_INDEX)
			conn_done(dc, slot, m->origin_position);
		if (dc->in_flight)
			dc->in_flight--;
	}
	bpf_spin_unlock(&dc->lock);
	if (slot != NO_INDEX)
		attend(dc, device);
}

#endif
