/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * control.h - what userspace changes atomically: programs run with
 * BPF_PROG_RUN, under the same locks as the packet hooks.
 */
#include "../include/skb.h"

/*
 * Changes a slot's state (struct slot_args). ok is 1 if it was changed. With
 * SLOT_OP_TAKE the message becomes userspace's: it is done for the device's
 * books, its request stays in the buffer until the slot is used again.
 */
SEC("syscall")
int slot_control(struct slot_args *a)
{
	__u32 index = a->slot, op = a->op, gen = a->gen, min_age = a->min_age_ms;
	struct conn *c = bpf_map_lookup_elem(&conns, &index);
	struct slot *slot = bpf_map_lookup_elem(&slots, &index);
	struct conn *dc;
	__u64 now = bpf_ktime_get_ns(), taken_ns = 0;
	__u32 ok = 0, state = 0, device = 0, device_gen = 0, device_seq = 0, len = 0, route = 0;
	__u16 packet_id = 0;
	__u8 qos = 0, acked = 0;

	if (!c || !slot || index >= knob_slots)
		return 0;
	bpf_spin_lock(&c->lock);
	if (c->gen == gen) {
		state = slot->state;
		device = slot->device;
		device_gen = slot->device_gen;
		device_seq = slot->device_seq;
		len = slot->request_len;
		route = slot->route;
		packet_id = slot->packet_id;
		qos = slot->qos;
		acked = slot->acked;
		taken_ns = slot->taken_ns;
		switch (op) {
		case SLOT_OP_READY:
			if (c->state == CONN_OPEN && !(c->flags & (CONN_FIN_SEEN | CONN_FIN_SENT)) &&
			    (state == SLOT_DIALLING || state == SLOT_LENT || state == SLOT_TAKEN)) {
				slot->state = SLOT_IDLE;
				ok = 1;
			}
			break;
		case SLOT_OP_LEND:
			if (c->state == CONN_OPEN && state == SLOT_IDLE) {
				slot->state = SLOT_LENT;
				ok = 1;
			}
			break;
		case SLOT_OP_TAKE:
			if ((state == SLOT_BUSY || state == SLOT_ANSWERING || state == SLOT_PASSING ||
			     state == SLOT_ANSWERED) &&
			    now - taken_ns >= (__u64)min_age * 1000000) {
				slot->state = SLOT_TAKEN;
				ok = 1;
			}
			break;
		case SLOT_OP_RETIRE:
			slot->state = SLOT_RETIRED;
			ok = 1;
			break;
		}
	}
	bpf_spin_unlock(&c->lock);
	if (ok && op == SLOT_OP_READY)
		slot_set_idle(index, slot);
	if (ok && op == SLOT_OP_TAKE) {
		count(HOOK_CONTROL, REASON_TAKEN_OVER);
		dc = bpf_map_lookup_elem(&conns, &device);
		if (dc) {
			bpf_spin_lock(&dc->lock);
			if (dc->gen == device_gen)
				conn_done(dc, index, gen, device_seq);
			bpf_spin_unlock(&dc->lock);
		}
	}
	a->ok = ok;
	a->state = state;
	a->device = device;
	a->device_gen = device_gen;
	a->request_len = len;
	a->route = route;
	a->packet_id = packet_id;
	a->qos = qos;
	a->acked = acked;
	a->taken_ns = taken_ns;
	return 0;
}

/*
 * Userspace names a message boundary of a connection that lost track (struct
 * boundary_args): the end of all that it has read. ok is 1 if that is where
 * the stream stands.
 */
SEC("syscall")
int device_boundary(struct boundary_args *a)
{
	__u32 index = a->conn, gen = a->gen, read = a->read, dev, ok = 0, flags = 0;
	struct conn *c = bpf_map_lookup_elem(&conns, &index);
	struct device *d;

	if (!c || index < knob_slots)
		return 0;
	dev = index - knob_slots;
	d = bpf_map_lookup_elem(&devices, &dev);
	if (!d)
		return 0;
	bpf_spin_lock(&c->lock);
	if (c->gen == gen && c->state == CONN_OPEN && (c->flags & CONN_LOST) && !c->rx.count &&
	    d->anchor + read == ledger_strip(&c->rx, c->rx_nxt)) {
		c->flags &= ~CONN_LOST;
		memset(&d->walk, 0, sizeof(d->walk));
		ok = 1;
	}
	if (c->gen == gen)
		flags = c->flags;
	bpf_spin_unlock(&c->lock);
	if (ok)
		count(HOOK_CONTROL, REASON_RESYNC);
	a->ok = ok;
	a->flags = flags;
	return 0;
}

/* One connection's overdue segment: an acknowledgement never sent, or a PUBACK never acknowledged. */
static long sweep_one(__u64 i, void *data)
{
	struct sweep_args *a = *(struct sweep_args **)data;
	__u32 index = a->first + i, now_ms = a->now_ms, gen = 0, len;
	struct scratch *s = scratch_of(HOOK_CONTROL);
	struct conn *c = bpf_map_lookup_elem(&conns, &index);
	struct stamp stamp;
	struct event *e;
	struct graft *g;
	bool send = false;
	__u8 bytes[4] = {};
	__u32 word = 0;

	if (!c || !s)
		return 1;
	if (c->state != CONN_OPEN && c->state != CONN_CLOSED)
		return 0;
	bpf_spin_lock(&c->lock);
	if ((c->state == CONN_OPEN || c->state == CONN_CLOSED) && !(c->flags & CONN_RST_SENT)) {
		gen = c->gen;
		g = ledger_at(&c->tx, 0);
		if (c->kind == CONN_DEVICE && c->tx.count && now_ms - g->time_ms >= knob_puback_rto_ms) {
			g->time_ms = now_ms;
			conn_stamp(c, &stamp);
			stamp.seq = g->seq;
			memcpy(bytes, g->bytes, 4);
			frame_fill(&s->frame, c, &stamp, TH_ACK | TH_PSH, 4);
			send = true;
		} else if (seq_gt(conn_ack(c), c->rx_acked) && now_ms - c->last_ms >= 40) {
			conn_bare(c, &stamp, now_ms);
			frame_fill(&s->frame, c, &stamp, TH_ACK, 0);
			send = true;
		}
	}
	bpf_spin_unlock(&c->lock);
	if (!send)
		return 0;
	memcpy(&word, bytes, 4);
	frame_checksum(&s->frame, false, s->frame.payload_len ? (word & 0xffff) + (word >> 16) : 0);
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0; /* the next sweep tries again: peers repeat what is not acknowledged */
	e->kind = EVENT_SEND;
	e->conn = index;
	e->gen = gen;
	e->packet_id = 0;
	e->qos = 0;
	e->ifindex = s->frame.ifindex;
	e->pad = 0;
	len = s->frame.len;
	if (s->frame.ipv6) {
		memcpy(e->frame, &s->frame.eth, FRAME_V6);
		memcpy(e->frame + FRAME_V6, bytes, 4);
	} else {
		memcpy(e->frame, &s->frame.eth, FRAME_V4);
		memcpy(e->frame + FRAME_V4, bytes, 4);
	}
	e->frame_len = len + s->frame.payload_len;
	a->sent++;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* Looks through connections [first, first + count) and hands out what is overdue (struct sweep_args). */
SEC("syscall")
int sweep(struct sweep_args *a)
{
	struct sweep_args args = {
		.first = a->first,
		.count = a->count,
		.now_ms = a->now_ms ? a->now_ms : bpf_ktime_get_ns() / 1000000,
	};
	struct sweep_args *arg = &args;

	bpf_loop(args.count, sweep_one, &arg, 0);
	a->sent = args.sent;
	return 0;
}
