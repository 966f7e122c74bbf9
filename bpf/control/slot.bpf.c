/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * slot.bpf.c - what userspace changes of a slot, atomically: programs run with
 * BPF_PROG_RUN, under the same locks as the packet hooks.
 */
#include "../reply/reply.h"
#include "../upstream/slot.h"
#include "../upstream/wait.h"

/* What a slot operation finds and gives back, beside the arguments. */
struct slot_change {
	struct message m; /* SLOT_OP_TAKE_OVER */
	__u64 now;
	__u32 state; /* before */
	__u32 position;
	__u32 only;
	__u32 number;
	__u32 closed;
	__u32 pad;
};

/*
 * SLOT_OP_READY. What waits in the socket was sent before the next request is: it answers
 * none. What it was passed beyond a hole it may have without having said so. Under the lock.
 */
static __always_inline enum slot_result slot_ready(struct conn *c, struct slot *slot, struct slot_change *x)
{
	if (c->state != CONN_OPEN || (c->flags & (CONN_FIN_SEEN | CONN_FIN_SENT)) ||
	    !(x->state == SLOT_DIALLING || (x->state == SLOT_TAKEN_OVER && conn_boundary(c, x->position))) ||
	    slot_in_flight(slot))
		return SLOT_REFUSED;
	x->position = ledger_strip(&c->rx, c->rx_nxt);
	if (x->state == SLOT_TAKEN_OVER) /* userspace has read the response */
		slot->responded_ns = x->now;
	slot->state = SLOT_IDLE;
	slot->left = 0;
	slot->close_after = 0;
	return SLOT_CHANGED;
}

/*
 * SLOT_OP_TAKE_OVER: the oldest message becomes userspace's: it is done for its origin, its request stays in its buffer
 * until the slot is ready again. Under the lock.
 */
static __always_inline enum slot_result slot_take_over(struct conn *c, struct slot *slot, const struct pod *pod,
						       __u32 index, struct slot_change *x)
{
	if (!slot_in_flight(slot))
		return SLOT_REFUSED;
	x->number = slot->head;
	/* The youngest is not in its origin's ledger before its maker lets the slot go. */
	if (x->number + 1 == slot->tail && (pod->filling & slot_bit(pod, index)))
		return SLOT_AGAIN;
	x->m = *slot_message(slot, x->number);
	x->position = ledger_strip(&c->rx, x->m.due);
	if ((x->only == TAKE_OVERDUE && !slot_overdue(slot, pod, x->now / 1000000)) ||
	    (x->only == TAKE_TRIAL && !slot_trial_overdue(slot, pod, x->now / 1000000)))
		return SLOT_REFUSED;
	x->closed = slot->closed;
	slot->head++;
	if (x->state != SLOT_RETIRED)
		slot->state = SLOT_TAKEN_OVER;
	return SLOT_CHANGED;
}

/* The message of a line that became userspace's. */
static __always_inline void slot_line(struct slot_args *a, __u32 line)
{
	struct parking *k = parking_get();

	if (!k || !line)
		return;
	bpf_spin_lock(&k->lock);
	line_hand(k, line);
	bpf_spin_unlock(&k->lock);
	a->line = park_client(k, line)->line; /* userspace holds it now: it is not another's */
}

/* The results that userspace reads. */
static __always_inline void slot_results(struct slot_args *a, const struct slot_change *x, __u32 ok)
{
	a->ok = ok;
	a->state = x->state;
	a->position = x->position;
	a->number = x->number;
	a->device = x->m.origin;
	a->device_gen = x->m.origin_gen;
	a->request_len = x->m.request_len;
	a->counter = x->m.counter;
	a->packet_id = x->m.packet_id;
	a->hold = x->m.hold;
	a->qos = x->m.qos;
	a->acked = x->m.acked;
	a->taken_ns = x->m.taken_ns;
	a->company = x->m.company;
	a->closed = x->closed;
	a->waited_us = x->m.waited_us;
	a->number_in_line = x->m.line;
}

/* Changes a slot's state (struct slot_args). ok says whether it was (enum slot_result). */
SEC("syscall")
int slot_control(struct slot_args *a)
{
	struct slot_change x = { .only = a->only, .position = a->position, .now = bpf_ktime_get_ns() };
	__u32 index = a->slot, op = a->op, gen = a->gen, pod_key, ok = SLOT_REFUSED;
	struct conn *c = conn_entry(index);
	struct slot *slot = slot_entry(index);
	struct pod *pod;

	if (!c || !slot || index >= knob_slots)
		return 0;
	pod_key = slot->pod;
	pod = bpf_map_lookup_elem(&pods, &pod_key);
	if (!pod)
		return 0;
	bpf_spin_lock(&c->lock);
	if (c->gen == gen) {
		x.state = slot->state;
		switch (op) {
		case SLOT_OP_READY:
			ok = slot_ready(c, slot, &x);
			break;
		case SLOT_OP_TAKE_OVER:
			ok = slot_take_over(c, slot, pod, index, &x);
			break;
		case SLOT_OP_RETIRE:
			slot->state = SLOT_RETIRED;
			ok = SLOT_CHANGED;
			break;
		case SLOT_OP_CLOSE:
			/* a request that is just being made finds the state changed, and passes */
			if (x.state == SLOT_IDLE) {
				slot->state = SLOT_RETIRED;
				ok = SLOT_CHANGED;
			}
			break;
		}
		opaque(ok); /* the verifier need not follow each case */
		slot_show(pod, index, slot);
	}
	bpf_spin_unlock(&c->lock);
	attend(c, index);
	pod_wake(HOOK_CONTROL, pod);
	if (ok == SLOT_CHANGED && op == SLOT_OP_TAKE_OVER) {
		count(HOOK_CONTROL, REASON_TAKEN_OVER);
		reply_leave(&x.m, index);
		slot_line(a, x.m.line);
	}
	slot_results(a, &x, ok);
	return 0;
}
