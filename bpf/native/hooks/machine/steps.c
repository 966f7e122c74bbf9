/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * steps.c - what happens on a processor: a packet is received or sent, or
 * userspace does something, the way internal/dataplane does it.
 */
#include "inside.h"

/* What a TC program said. */
static void finish(struct task *t, struct skb *k, int verdict, enum record_kind local)
{
	switch (verdict) {
	case TC_OK:
		record_frame(local, k, k->ctx.ifindex);
		break;
	case TC_REDIRECTED:
		k->ctx.ingress_ifindex = k->ctx.ifindex;
		if (t->to_peer)
			record_frame(RECORD_POD_WIRE, k, t->to_ifindex);
		else
			leave(k, t->to_ifindex);
		break;
	default:
		record_frame(RECORD_DROP, k, k->ctx.ifindex);
	}
}

/* Returns false if the packet goes on to TC. */
static bool xdp(struct task *t, struct skb *k)
{
	struct xdp_md ctx = { .data = k->ctx.data, .data_end = k->ctx.data_end, .ingress_ifindex = NODE_IFINDEX };
	int verdict;

	t->xdp = true;
	verdict = xdp_device(&ctx);
	t->xdp = false;
	if (verdict == XDP_PASS)
		return false;
	k->ctx.data = ctx.data;
	k->ctx.data_end = ctx.data_end;
	k->ctx.len = ctx.data_end - ctx.data;
	record_frame(verdict == XDP_REDIRECT ? RECORD_POD_WIRE : RECORD_DROP, k, t->to_ifindex);
	return true;
}

static void device_frame(struct task *t, const struct step *s)
{
	struct skb *k = skb_new(s->bytes, s->len);

	k->ctx.ifindex = NODE_IFINDEX;
	if (s->xdp && xdp(t, k))
		return;
	finish(t, k, tc_device_in(&k->ctx), RECORD_DEVICE_LOCAL);
}

static void pod_frame(struct task *t, const struct step *s)
{
	struct skb *k;
	__u32 sent = 0;

	for (__u32 i = 0; i < machine.records; i++)
		sent += machine.record[i].kind == RECORD_POD_WIRE;
	if (sent < s->after)
		return;
	k = skb_new(s->bytes, s->len);
	k->ctx.ifindex = s->ifindex;
	finish(t, k, tc_pod_in(&k->ctx), RECORD_POD_LOCAL);
}

static void local_frame(const struct step *s)
{
	struct skb *k = skb_new(s->bytes, s->len);

	k->sock.rcv_nxt = s->rcv_nxt;
	k->sock.copied_seq = s->rcv_nxt;
	k->sock.snd_una = s->snd_una;
	k->sock.snd_nxt = s->snd_una; /* what seeds is the first that it sends */
	k->sock.snd_wnd = 60000;
	k->sock.mss_cache = 1460;
	k->ctx.sk = (struct bpf_sock *)&k->sock;
	leave(k, s->ifindex);
}

/* The entry's next generation: read and written under the lock, but not in one. */
static void entry_put(__u32 index, __u16 kind, const struct tuple *tuple, struct task *t)
{
	struct conn *c = &machine.conns[index], next;
	__u32 gen;

	bpf_spin_lock(&c->lock);
	gen = c->gen;
	bpf_spin_unlock(&c->lock);
	memset(&next, 0, sizeof(next));
	next.gen = gen + 1;
	next.state = CONN_ARMED;
	next.kind = kind;
	next.tuple = *tuple;
	bpf_spin_lock(&c->lock);
	memcpy((__u8 *)c + sizeof(c->lock), (__u8 *)&next + sizeof(c->lock), sizeof(next) - sizeof(c->lock));
	bpf_spin_unlock(&c->lock);
	t->gen = next.gen;
}

static void free_conn(struct task *t, const struct step *s)
{
	struct free_args a = { .conn = s->index, .gen = s->gen ? s->gen : t->gen };
	__u32 *at;

	conn_free(&a);
	point(0);
	at = flow_find(&s->tuple);
	if (a.ok && at && *at == s->index)
		flow_delete(&s->tuple);
}

static void arm(struct task *t, const struct step *s)
{
	entry_put(s->index, s->conn_kind, &s->tuple, t);
	point(0);
	machine.flow(&s->tuple, s->index);
}

/* The memory is mapped: userspace's stores are plain. */
static void device_put(const struct step *s)
{
	struct device *d = &machine.devices[s->index - *machine.slot_count];
	__u32 gen;

	touch_range(d, sizeof(*d), true);
	memcpy(d, &s->device, sizeof(*d) / 2);
	touch_range(d, sizeof(*d), true);
	memcpy((__u8 *)d + sizeof(*d) / 2, (const __u8 *)&s->device + sizeof(*d) / 2, sizeof(*d) - sizeof(*d) / 2);
	bpf_spin_lock(&machine.conns[s->index].lock);
	gen = machine.conns[s->index].gen;
	bpf_spin_unlock(&machine.conns[s->index].lock);
	d->gen = gen + 1;
}

static void slot_put(const struct step *s)
{
	struct slot *slot = &machine.slots[s->index];
	__u32 count = slot->count;
	struct slot next = s->slot;

	next.count = count + 1;
	point(0);
	memcpy(slot, &next, offsetof(struct slot, messages));
	point(0);
	memcpy(slot->messages, next.messages, sizeof(next.messages));
}

static void control(struct task *t, const struct step *s)
{
	struct slot_args a;
	struct record *r;

	do {
		for (;;) {
			memset(&a, 0, sizeof(a));
			a.slot = s->index;
			a.gen = s->gen ? s->gen : t->gen;
			a.op = s->op;
			a.only = s->overdue;
			a.position = s->read;
			slot_control(&a);
			if (a.ok != SLOT_AGAIN)
				break;
			give_way();
		}
		point(0);
		r = record_new(RECORD_CONTROL);
		r->control = a;
		if (a.ok && a.op == SLOT_OP_TAKE_OVER) {
			__u32 n = a.number & (*machine.pipeline - 1), half = a.request_len / 2;
			__u32 at = n ? *machine.slot_count + a.slot * *machine.pipeline + n : a.slot;
			__u8 *buf = machine.requests[at].buf;

			r->len = a.request_len;
			touch_range(buf, r->len, false);
			memcpy(r->bytes, buf, half);
			touch_range(buf, r->len, false);
			memcpy(r->bytes + half, buf + half, r->len - half);
		}
	} while (s->repeat && a.ok && !machine.fault[0]);
}

static void device_step(struct task *t, const struct step *s)
{
	struct device_args a = { .conn = s->index,
				 .gen = s->gen ? s->gen : t->gen,
				 .op = s->op,
				 .read = s->read,
				 .rights = 2,
				 .packet_id = s->packet_id,
				 .dup = s->dup,
				 .hold = s->hold };

	device_control(&a);
	record_new(RECORD_DEVICE_CONTROL)->device = a;
}

static void alias_step(struct task *t, const struct step *s)
{
	struct alias_args a = { .conn = s->index, .gen = s->gen ? s->gen : t->gen, .alias = s->op, .len = s->len };

	memcpy(a.topic, s->bytes, s->len);
	alias_control(&a);
}

/* As podState.rouse. */
static void rouse(struct pod *p)
{
	struct pod_args a = { .pod = p->first_slot, .op = POD_OP_WAKE };

	pod_control(&a);
	if (a.ok)
		record_new(RECORD_ROUSED);
}

static void sleep_step(const struct step *s)
{
	struct pod_args a = { .pod = s->index, .op = s->op };

	pod_control(&a);
}

/* As podState.Enter. */
static bool enter(struct pod *p)
{
	__u64 used;
	__u32 n;

	__sync_fetch_and_add(&p->fallback, 1);
	used = __sync_fetch_and_or(&p->filling, 0);
	used |= __sync_fetch_and_or(&p->busy, 0);
	n = __sync_fetch_and_add(&p->fallback, 0);
	if (__builtin_popcountll(used) + n <= p->concurrency) {
		rouse(p);
		return true;
	}
	__sync_fetch_and_sub(&p->fallback, 1);
	return false;
}

/* As pool.Standalone: who finds no place says that it waits, and looks again. */
static void enter_or_wait(struct pod *p)
{
	if (enter(p))
		return;
	__sync_fetch_and_or(&p->waiting, 1);
	if (enter(p))
		__sync_fetch_and_and(&p->waiting, 0);
}

/* As queue.take: the entry is free once its bytes are read. */
static void park_take_step(const struct step *s)
{
	struct park_args a, done;
	struct record *r;

	do {
		__u32 half;
		__u8 *buf;

		a = (struct park_args){ .op = PARK_OP_TAKE, .queue = s->index, .before_ms = machine.now_ns / 1000000 };
		park_control(&a);
		if (!a.ok)
			break;
		point(0);
		r = record_new(RECORD_PARKED);
		r->parked = machine.parked[a.number].message;
		buf = machine.parked[a.number].buf;
		r->len = r->parked.request_len;
		half = r->len / 2;
		touch_range(buf, r->len, false);
		memcpy(r->bytes, buf, half);
		touch_range(buf, r->len, false);
		memcpy(r->bytes + half, buf + half, r->len - half);
		done = (struct park_args){ .op = PARK_OP_FREE, .number = a.number };
		park_control(&done);
	} while (s->repeat && !machine.fault[0]);
}

static void park_send_step(const struct step *s)
{
	static const __u8 zeroes[64];
	struct skb *k = skb_new(zeroes, sizeof(zeroes));

	k->ctx.cb[0] = s->index;
	park_send(&k->ctx);
}

static void step(struct task *t, const struct step *s)
{
	switch (s->kind) {
	case STEP_DEVICE_FRAME:
		device_frame(t, s);
		break;
	case STEP_POD_FRAME:
		pod_frame(t, s);
		break;
	case STEP_LOCAL_FRAME:
		local_frame(s);
		break;
	case STEP_CONTROL:
		control(t, s);
		break;
	case STEP_DEVICE_CONTROL:
		device_step(t, s);
		break;
	case STEP_SWEEP:
		datapath_sweep();
		break;
	case STEP_FREE:
		free_conn(t, s);
		break;
	case STEP_ARM:
		arm(t, s);
		break;
	case STEP_DEVICE:
		device_put(s);
		break;
	case STEP_SLOT:
		slot_put(s);
		break;
	case STEP_SOCKET:
		point(0);
		socket_set(s->index, s->state);
		break;
	case STEP_RELOAD:
		point(0);
		machine.settings->root = s->index;
		point(0);
		machine.settings->epoch++;
		break;
	case STEP_ENTER:
		enter_or_wait(&machine.pods[s->index]);
		break;
	case STEP_LEAVE:
		__sync_fetch_and_sub(&machine.pods[s->index].fallback, 1);
		break;
	case STEP_PARK_TAKE:
		park_take_step(s);
		break;
	case STEP_PARK_SEND:
		park_send_step(s);
		break;
	case STEP_POD:
		point(0);
		machine.pods[s->index].up = s->state;
		break;
	case STEP_SLEEP:
		sleep_step(s);
		break;
	case STEP_ALIAS:
		alias_step(t, s);
		break;
	default:
		fault("unknown step");
	}
}

void task_main(struct task *t)
{
	for (__u32 i = 0; i < machine.steps[t->id]; i++)
		step(t, &machine.step[t->id][i]);
	for (__u32 i = 0; i < t->backlogged; i++)
		finish(t, t->backlog[i], tc_device_in(&t->backlog[i]->ctx), RECORD_DEVICE_LOCAL);
	t->backlogged = 0;
}
