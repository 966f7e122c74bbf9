/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* begin.h - a request begins on a claimed slot, or that is undone; the end of a slot. */
#ifndef EPROXY_UPSTREAM_BEGIN_H
#define EPROXY_UPSTREAM_BEGIN_H

#include "claim.h"
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

/*
 * Slot side of a take: the request becomes an insertion in the pod's stream.
 * gen and number are what the claim found. A pod that is asleep is woken.
 */
static __always_inline enum reason slot_begin(enum hook hook, struct conn *sc, struct slot *slot, struct pod *pod,
					      struct scratch *s, __u32 gen, __u64 now_ns)
{
	__u32 mss = slot_mss(pod, sc, now_ns / 1000000);
	enum reason reason = REASON_TAKEN;
	struct stamp stamp;
	struct message *m;

	bpf_spin_lock(&sc->lock);
	/* only an idle slot: of one that is taken over userspace still reads the request */
	if (sc->gen == gen && slot->state == SLOT_IDLE && (__s32)(s->number - slot->tail) >= 0)
		slot->head = slot->tail = slot->acked = s->number;
	if (sc->gen != gen || sc->state != CONN_OPEN) {
		reason = REASON_DEAD_SOCKET;
	} else if (slot->tail != s->number ||
		   (slot->state != SLOT_IDLE &&
		    !(slot_takes(pod, s->slot, slot) & (s->publish.qos ? TAKES_ROOM | TAKES_DEEPER : TAKES_ROOM)))) {
		reason = REASON_RACE;
		slot_show(pod, s->slot, slot); /* the pod's depth may be another one since */
	} else if (s->request_len > mss) {
		reason = REASON_TOO_LARGE;
	} else if (!conn_can_insert(sc, s->request_len)) {
		reason = REASON_POD_WINDOW;
	} else {
		conn_stamp(sc, &stamp);
		conn_insert(sc, s->request_len, now_ns / 1000000);
		sc->last_ms = now_ns / 1000000;
		m = slot_message(slot, slot->tail);
		m->taken_ns = now_ns;
		m->device = s->device;
		m->device_gen = s->device_gen;
		m->device_seq = s->device_seq;
		m->counter = s->counter;
		m->request_seq = stamp.seq;
		m->request_len = s->request_len;
		m->packet_id = s->publish.packet_id;
		m->qos = s->publish.qos;
		m->acked = 0;
		m->again = 0;
		m->early = 0;
		m->sent_ms = now_ns / 1000000;
		m->hold = HOLD_NONE; /* until the device's ledger has it */
		m->company = slot_company(pod, s->slot, slot);
		m->waited_us = 0;
		slot->tail++;
		if (m->company == COMPANY_TRIAL)
			slot->trial = slot->tail;
		if (!m->qos)
			slot->plain = slot->tail;
		if (slot->state == SLOT_IDLE)
			slot->state = SLOT_BUSY;
		slot_show(pod, s->slot, slot);
		frame_fill(&s->frame, sc, &stamp, TH_ACK | TH_PSH, s->request_len);
		s->slot_gen = gen;
		s->slot_seq = stamp.seq;
		s->slot_mss = mss;
		s->far = recovery_far(sc);
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
	struct slot *slot = slot_entry(s->slot);
	struct conn *sc = conn_entry(s->slot);

	return slot && sc && request_live(sc, slot, s->slot_gen, s->number);
}

#endif
