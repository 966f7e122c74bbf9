/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* begin.h - a request begins on a claimed slot, or that is undone; the end of a slot. */
#ifndef EPROXY_UPSTREAM_BEGIN_H
#define EPROXY_UPSTREAM_BEGIN_H

#include "claim.h"
#include "../pure/parking.h"
#include "../work/scratch.h"

/* What one more message has in front of it. Under the slot's lock. */
static __always_inline enum company slot_company(const struct pod *pod, __u32 index, const struct slot *slot)
{
	__u32 n = slot_in_flight(slot), company = n ? COMPANY_SOME : COMPANY_NONE;

	if (n && *(volatile __u64 *)&pod->trial & slot_bit(pod, index) && n >= *(volatile __u32 *)&pod->proven)
		company = COMPANY_TRIAL;
	opaque(company); /* the verifier need not follow each case */
	return company;
}

/* The order becomes the youngest message of the slot, at the wire position seq of the pod's stream. Under the slot's lock. */
static __always_inline void slot_push(struct slot *slot, const struct pod *pod, __u32 index, const struct order *o,
				      __u32 seq, __u64 now_ns)
{
	struct message *m = slot_message(slot, slot->tail);

	m->taken_ns = now_ns;
	m->origin = o->from->index;
	m->origin_gen = o->from->gen;
	m->origin_position = o->from->position;
	m->origin_kind = o->from->kind;
	m->counter = o->counter;
	m->request_seq = seq;
	m->request_len = o->len;
	m->packet_id = o->id;
	m->qos = o->qos;
	m->acked = 0;
	m->again = 0;
	m->early = o->early;
	m->sent_ms = now_ns / 1000000;
	m->hold = o->hold;
	m->company = slot_company(pod, index, slot);
	m->waited_us = o->waited_us;
	m->line = o->line;
	slot->tail++;
	if (m->company == COMPANY_TRIAL)
		slot->trial = slot->tail;
	if (!m->qos)
		slot->plain = slot->tail;
	if (slot->state == SLOT_IDLE)
		slot->state = SLOT_BUSY;
}

/*
 * The request becomes an insertion in the pod's stream, and its frame's headers are filled in. The claim's generation and
 * number are what the slot had when it was claimed; the rest of it is filled in. A pod that is asleep is woken.
 */
static __always_inline enum reason slot_begin(enum hook hook, struct conn *sc, struct slot *slot, struct pod *pod,
					      struct claim *claim, const struct order *o, struct frame *f, __u64 now_ns)
{
	__u32 mss = slot_mss(pod, sc, now_ns / 1000000), gen = claim->gen;
	enum reason reason = REASON_TAKEN;
	struct stamp stamp;

	bpf_spin_lock(&sc->lock);
	/* only an idle slot: of one that is taken over userspace still reads the request */
	if (sc->gen == gen && slot->state == SLOT_IDLE && (__s32)(claim->number - slot->tail) >= 0)
		slot->head = slot->tail = slot->acked = claim->number;
	if (sc->gen != gen || sc->state != CONN_OPEN) {
		reason = REASON_DEAD_SOCKET;
	} else if (slot->tail != claim->number ||
		   (slot->state != SLOT_IDLE &&
		    !(slot_takes(pod, claim->slot, slot) & (o->qos ? TAKES_ROOM | TAKES_DEEPER : TAKES_ROOM)))) {
		reason = REASON_RACE;
		slot_show(pod, claim->slot, slot); /* the pod's depth may be another one since */
	} else if (o->len > mss) {
		reason = REASON_TOO_LARGE;
	} else if (!conn_can_insert(sc, o->len)) {
		reason = REASON_POD_WINDOW;
	} else {
		conn_stamp(sc, &stamp);
		conn_insert(sc, o->len, now_ns / 1000000);
		sc->last_ms = now_ns / 1000000;
		slot_push(slot, pod, claim->slot, o, stamp.seq, now_ns);
		slot_show(pod, claim->slot, slot);
		frame_fill(f, sc, &stamp, TH_ACK | TH_PSH, o->len);
		claim->seq = stamp.seq;
		claim->mss = mss;
		claim->far = recovery_far(sc);
	}
	bpf_spin_unlock(&sc->lock);
	if (!reason)
		pod_rouse(hook, pod);
	return reason;
}

/* Takes slot_begin back: nothing was sent. Where that is impossible, the slot is retired. */
static __always_inline void slot_undo(struct conn *sc, struct slot *slot, struct pod *pod, __u32 index, __u32 gen,
				      __u32 number, enum hook hook)
{
	struct message *m = slot_message(slot, number);
	bool retired = false;

	bpf_spin_lock(&sc->lock);
	if (sc->gen == gen && slot->tail == number + 1 && slot->head != slot->tail) {
		retired = !conn_uninsert(sc, m->request_seq, m->request_len);
		slot->tail--;
		if (retired)
			slot->state = SLOT_RETIRED;
		else if (slot->state == SLOT_BUSY && slot->head == slot->tail)
			slot->state = SLOT_IDLE;
		slot_show(pod, index, slot);
	}
	bpf_spin_unlock(&sc->lock);
	if (retired)
		event_simple(hook, EVENT_SLOT, index, gen);
}

/* The slot's socket is gone: userspace replaces it. */
static __always_inline void slot_retire(struct conn *sc, struct slot *slot, struct pod *pod, __u32 index, __u32 gen,
					enum hook hook)
{
	bpf_spin_lock(&sc->lock);
	if (sc->gen == gen) {
		slot->state = SLOT_RETIRED;
		slot_show(pod, index, slot);
	}
	bpf_spin_unlock(&sc->lock);
	attend(sc, index);
	event_simple(hook, EVENT_SLOT, index, gen);
}

/* After copying the request that was just taken: whether these are its bytes. */
static __always_inline bool taken_live(const struct scratch *s)
{
	struct slot *slot = slot_entry(s->claim.slot);
	struct conn *sc = conn_entry(s->claim.slot);

	return slot && sc && request_live(sc, slot, s->claim.gen, s->claim.number);
}

#endif
