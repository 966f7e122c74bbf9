/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * control.h - what userspace changes atomically: programs run with
 * BPF_PROG_RUN, under the same locks as the packet hooks.
 */
#include "../include/park.h"
#include "../include/resend.h"
#include "../include/skb.h"

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

/* Whether a pod has something to do: requests of the programs or the fallback, or messages that wait in its function's queue. */
static __always_inline bool pod_needed(const struct pod *pod)
{
	__u64 used = *(volatile __u64 *)&pod->filling; /* first, as for pod_full */
	struct queue *q = queue_entry(pod->queue);

	used |= *(volatile __u64 *)&pod->busy;
	return used || *(volatile __u32 *)&pod->fallback || (q && *(volatile __u32 *)&q->count);
}

/* Changes whether a pod is asleep (struct pod_args). */
SEC("syscall")
int pod_control(struct pod_args *a)
{
	__u32 key = a->pod, op = a->op, ok = 0, old;
	struct pod *pod = bpf_map_lookup_elem(&pods, &key);

	if (!pod)
		return 0;
	switch (op) {
	case POD_OP_REST:
		if (__sync_val_compare_and_swap(&pod->sleep, POD_AWAKE, POD_ASLEEP) != POD_AWAKE)
			break;
		ok = 1;
		if (pod_needed(pod)) {
			old = __sync_lock_test_and_set(&pod->sleep, POD_AWAKE);
			opaque(old);
			ok = 0;
		}
		break;
	case POD_OP_WAKE:
		ok = __sync_val_compare_and_swap(&pod->sleep, POD_ASLEEP, POD_WAKING) == POD_ASLEEP;
		break;
	case POD_OP_AWAKE:
		pod->thawed_ns = bpf_ktime_get_ns();
		old = __sync_lock_test_and_set(&pod->sleep, POD_AWAKE);
		opaque(old);
		ok = 1;
		break;
	}
	a->ok = ok;
	return 0;
}

/* Userspace has read so many bytes, to a packet's end. Whether that is where the stream stands. Under the lock. */
static __always_inline bool device_at(struct conn *c, const struct device *d, __u32 read)
{
	return c->state == CONN_OPEN && conn_boundary(c, d->anchor + read) && (c->flags & CONN_LOST);
}

/*
 * Changes what the programs may do with a client's connection (struct
 * device_args). A message that is just being taken by another processor is taken
 * before this, or not at all: takes are decided under the same lock, where they
 * look at everything that is changed here. The cached topic was judged under the
 * rights of before.
 */
SEC("syscall")
int device_control(struct device_args *a)
{
	__u32 index = a->conn, gen = a->gen, op = a->op, read = a->read, rights = a->rights;
	struct conn *c = conn_entry(index);
	__u32 ok = 0, repeated = 0, hold = op == DEVICE_OP_RELEASE ? a->hold : HOLD_NONE;
	__u16 id = a->packet_id, dup = a->dup;
	struct id_table *ids;
	__u64 taken = 0;
	struct device *d;

	if (!c || index < knob_slots)
		return 0;
	d = device_entry(index);
	if (!d)
		return 0;
	if (op == DEVICE_OP_HOLD)
		device_id_room(index, gen, id);
	ids = device_table(d);
	bpf_spin_lock(&c->lock);
	if (c->gen == gen) {
		switch (op) {
		case DEVICE_OP_BOUNDARY:
			if (device_at(c, d, read)) {
				c->flags &= ~CONN_LOST;
				memset(&d->framing, 0, sizeof(d->framing));
				ok = 1;
			}
			break;
		case DEVICE_OP_RIGHTS:
			d->rights = rights;
			d->cache_epoch = 0;
			d->cache_version++;
			ok = 1;
			break;
		case DEVICE_OP_STOP:
			c->flags |= CONN_NO_TAKE;
			d->stopped = 1;
			ok = 1;
			break;
		case DEVICE_OP_HOLD:
			if (dup && (ids_find(&d->ids, ids, id) != IDS_NONE || conn_notifying(c, id)))
				repeated = 1;
			else
				hold = ids_hold(&d->ids, ids, id);
			ok = 1;
			break;
		case DEVICE_OP_RELEASE:
			ok = ids_release(&d->ids, ids, hold);
			break;
		}
		taken = d->taken;
	}
	bpf_spin_unlock(&c->lock);
	if (ok && op == DEVICE_OP_BOUNDARY)
		count(HOOK_CONTROL, REASON_RESYNC);
	if (repeated)
		count(HOOK_CONTROL, REASON_REPEATED);
	a->ok = ok;
	a->repeated = repeated;
	a->hold = hold;
	a->taken = taken;
	return 0;
}

/*
 * What the programs build for a connection bears these link addresses from now on
 * (struct link_args): its neighbour, or the interface, has another one. An armed
 * connection gets those of the packet that seeds it.
 */
SEC("syscall")
int link_control(struct link_args *a)
{
	__u32 index = a->conn, gen = a->gen, ok = 0;
	struct conn *c = conn_entry(index);
	__u8 dst[6], src[6];

	if (!c)
		return 0;
	memcpy(dst, a->dst_mac, 6);
	memcpy(src, a->src_mac, 6);
	bpf_spin_lock(&c->lock);
	if (c->gen == gen && conn_live(c)) {
		memcpy(c->dst_mac, dst, 6);
		memcpy(c->src_mac, src, 6);
		ok = 1;
	}
	bpf_spin_unlock(&c->lock);
	a->ok = ok;
	return 0;
}

/*
 * The connection of this generation has no packet identifiers under way any more: its table is emptied, and
 * another connection's. After conn_free nobody enters one.
 */
static __always_inline void device_forget_ids(__u32 index, __u32 gen)
{
	struct device *d = device_entry(index);
	struct conn *c = conn_entry(index);
	struct id_table *t;
	bool had;

	if (!d || !c || d->gen != gen)
		return;
	t = device_table(d);
	if (!t)
		return;
	bpf_spin_lock(&c->lock);
	had = ids_has(&d->ids, t);
	if (had)
		d->ids.table = 0;
	bpf_spin_unlock(&c->lock);
	if (!had)
		return;
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < IDS_TABLE; i++)
	{
		*(volatile __u16 *)&t->ids[i] = 0; /* as it stands: there is no memset of this size */
	}
	t->count = 0;
	__sync_fetch_and_and(&t->taken, 0);
}

/*
 * Forgets a connection (struct free_args): nothing of it is translated any more. Who
 * is late harms nobody: a generation ends once.
 */
SEC("syscall")
int conn_free(struct free_args *a)
{
	__u32 index = a->conn, gen = a->gen, ok = 0;
	struct conn *c = conn_entry(index);

	if (!c)
		return 0;
	bpf_spin_lock(&c->lock);
	if (c->gen == gen) {
		c->gen++;
		c->state = CONN_FREE;
		c->flags = 0;
		c->in_flight = 0;
		ok = 1;
	}
	bpf_spin_unlock(&c->lock);
	if (index >= knob_slots)
		device_forget_ids(index, gen);
	a->ok = ok;
	return 0;
}

/*
 * PARK_OP_TAKE, of the family of what was refused last, if there is one: the message in a->number is userspace's, which finishes it; its
 * device has one less in flight here.
 */
static __always_inline void park_take(struct park_args *a, __u32 queue, __u32 before_ms)
{
	struct queue *q = queue_entry(queue);
	struct parking *k = parking_get();
	struct parked_message *e;
	__u32 n = PARK_NONE, device, gen, family;
	struct conn *dc;

	if (!q || !k)
		return;
	bpf_spin_lock(&k->lock);
	family = q->refused;
	if (!parking_old(k, q, family, before_ms))
		family ^= 1;
	if (parking_old(k, q, family, before_ms))
		n = parking_pop(k, q, family);
	bpf_spin_unlock(&k->lock);
	e = parked_entry(n);
	if (!n || !e)
		return;
	device = e->message.device;
	gen = e->message.device_gen;
	dc = conn_entry(device);
	if (dc) {
		bpf_spin_lock(&dc->lock);
		if (dc->gen == gen && dc->in_flight)
			dc->in_flight--;
		bpf_spin_unlock(&dc->lock);
	}
	count(HOOK_CONTROL, REASON_PARK_HANDED);
	a->number = n;
	a->ok = 1;
}

/* What userspace does with messages that wait for slots (struct park_args). */
SEC("syscall")
int park_control(struct park_args *a)
{
	__u32 op = a->op, queue = a->queue, before_ms = a->before_ms, number = a->number;
	struct parking *k = parking_get();

	a->ok = 0;
	if (!k)
		return 0;
	switch (op) {
	case PARK_OP_TAKE:
		park_take(a, queue, before_ms);
		break;
	case PARK_OP_FREE:
		bpf_spin_lock(&k->lock);
		parking_free(k, number);
		bpf_spin_unlock(&k->lock);
		a->ok = 1;
		break;
	case PARK_OP_ROOM:
		bpf_spin_lock(&k->lock);
		if (number > k->limit)
			k->limit = number;
		k->asked = 0;
		bpf_spin_unlock(&k->lock);
		a->ok = 1;
		break;
	}
	return 0;
}

/*
 * Sends what waits in the queue cb[0] to slots that are free. Userspace runs it with any packet of its own, which only
 * lends its memory to the requests: packets cannot interrupt it then, and slots are free now that no packet told of. Returns
 * 1 if a slot's connection does not take the message whose turn it is, else 0.
 */
SEC("tc")
int park_send(struct __sk_buff *skb)
{
	__u32 queue = skb->cb[0];
	int refused = unpark_all(skb, queue, NO_INDEX, HOOK_CONTROL, 0);

	return refused | unpark_all(skb, queue, NO_INDEX, HOOK_CONTROL, 1);
}

/*
 * Names the requests that are to be sent again because the oldest one's timeout has passed: those
 * of s->piece. Returns 1 if there are any, 0 if the pod has acknowledged it meanwhile. A function of its own, for
 * the size of the stack.
 */
__attribute__((noinline)) int requests_expire(__u32 index, __u32 gen)
{
	struct scratch *s = scratch_of(HOOK_TC_POD_IN);
	__u32 now_ms = bpf_ktime_get_ns() / 1000000, pod_key, mss;
	struct conn *c = conn_entry(index);
	struct slot *slot;
	struct pod *pod;
	int expired = 0;

	if (!s || !c || index >= knob_slots)
		return 0;
	slot = slot_entry(index);
	if (!slot)
		return 0;
	pod_key = slot->pod;
	pod = bpf_map_lookup_elem(&pods, &pod_key);
	if (!pod)
		return 0;
	mss = slot_mss(pod, c, now_ms);
	bpf_spin_lock(&c->lock);
	if (c->gen == gen && (__s32)(slot_due(c, slot, now_ms) - now_ms) <= 0) {
		recovery_expire(&slot->recovery, c);
		requests_missing(&s->piece, index, c, slot, mss, now_ms);
		expired = 1;
	}
	bpf_spin_unlock(&c->lock);
	return expired;
}

/*
 * The sweeper has found the oldest request of slot cb[0], generation cb[1], not acknowledged in time: it
 * leaves again, unless it was meanwhile. Userspace runs it as park_send, so that the work space of
 * tc_pod_in is free. Returns 1 if it sent something, else 0.
 */
SEC("tc")
int requests_send(struct __sk_buff *skb)
{
	struct scratch *s = scratch_of(HOOK_TC_POD_IN);
	__u32 index = skb->cb[0], gen = skb->cb[1];

	if (!s || !requests_expire(index, gen))
		return 0;
	requests_resend(skb, s, HOOK_CONTROL);
	return 1;
}
