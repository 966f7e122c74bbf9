/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * slot.bpf.c - what userspace changes of a slot, atomically: programs run with
 * BPF_PROG_RUN, under the same locks as the packet hooks.
 */
#include "../upstream/slot.h"

/*
 * Changes a slot's state (struct slot_args). ok says
 * whether it was (enum slot_result). With SLOT_OP_TAKE_OVER the oldest message becomes userspace's: it is done for the
 * device's ledger, its request stays in its buffer until the slot is ready
 * again.
 */
SEC("syscall")
int slot_control(struct slot_args *a)
{
	__u32 index = a->slot, op = a->op, gen = a->gen, only = a->only, position = a->position, pod_key, closed = 0;
	struct conn *c = conn_entry(index), *dc;
	struct slot *slot = slot_entry(index);
	__u64 now = bpf_ktime_get_ns();
	__u32 ok = SLOT_REFUSED, state = 0, number = 0;
	struct message m = {};
	struct pod *pod;

	if (!c || !slot || index >= knob_slots)
		return 0;
	pod_key = slot->pod;
	pod = bpf_map_lookup_elem(&pods, &pod_key);
	if (!pod)
		return 0;
	bpf_spin_lock(&c->lock);
	if (c->gen == gen) {
		state = slot->state;
		switch (op) {
		case SLOT_OP_READY:
			/*
			 * What waits in the socket was sent before the next request is: it answers
			 * none. What it was passed beyond a hole it may have without having said so.
			 */
			if (c->state == CONN_OPEN && !(c->flags & (CONN_FIN_SEEN | CONN_FIN_SENT)) &&
			    (state == SLOT_DIALLING || (state == SLOT_TAKEN_OVER && conn_boundary(c, position))) &&
			    !slot_in_flight(slot)) {
				position = ledger_strip(&c->rx, c->rx_nxt);
				if (state == SLOT_TAKEN_OVER) /* userspace has read the response */
					slot->responded_ns = now;
				slot->state = SLOT_IDLE;
				slot->left = 0;
				slot->close_after = 0;
				ok = SLOT_CHANGED;
			}
			break;
		case SLOT_OP_TAKE_OVER:
			if (!slot_in_flight(slot))
				break;
			number = slot->head;
			/* The youngest is not in its device's ledger before its maker lets the slot go. */
			if (number + 1 == slot->tail && (pod->filling & slot_bit(pod, index))) {
				ok = SLOT_AGAIN;
				break;
			}
			m = *slot_message(slot, number);
			position = ledger_strip(&c->rx, m.due);
			if ((only == TAKE_OVERDUE && !slot_overdue(slot, pod, now / 1000000)) ||
			    (only == TAKE_TRIAL && !slot_trial_overdue(slot, pod, now / 1000000)))
				break;
			closed = slot->closed;
			slot->head++;
			if (state != SLOT_RETIRED)
				slot->state = SLOT_TAKEN_OVER;
			ok = SLOT_CHANGED;
			break;
		case SLOT_OP_RETIRE:
			slot->state = SLOT_RETIRED;
			ok = SLOT_CHANGED;
			break;
		case SLOT_OP_CLOSE:
			/* a request that is just being made finds the state changed, and passes */
			if (state == SLOT_IDLE) {
				slot->state = SLOT_RETIRED;
				ok = SLOT_CHANGED;
			}
			break;
		}
		slot_show(pod, index, slot);
	}
	bpf_spin_unlock(&c->lock);
	attend(c, index);
	pod_wake(HOOK_CONTROL, pod);
	if (ok == SLOT_CHANGED && op == SLOT_OP_TAKE_OVER) {
		__u32 device = m.device;

		count(HOOK_CONTROL, REASON_TAKEN_OVER);
		dc = conn_entry(device);
		if (dc) {
			bpf_spin_lock(&dc->lock);
			if (dc->gen == m.device_gen) {
				conn_done(dc, index, m.device_seq);
				if (dc->in_flight)
					dc->in_flight--;
			}
			bpf_spin_unlock(&dc->lock);
			attend(dc, device);
		}
	}
	a->ok = ok;
	a->state = state;
	a->position = position;
	a->number = number;
	a->device = m.device;
	a->device_gen = m.device_gen;
	a->request_len = m.request_len;
	a->counter = m.counter;
	a->packet_id = m.packet_id;
	a->hold = m.hold;
	a->qos = m.qos;
	a->acked = m.acked;
	a->taken_ns = m.taken_ns;
	a->company = m.company;
	a->closed = closed;
	a->waited_us = m.waited_us;
	return 0;
}
