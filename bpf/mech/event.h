/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* event.h - what the programs tell userspace, through a ring. */
#ifndef EPROXY_MECH_EVENT_H
#define EPROXY_MECH_EVENT_H

#include "verdict.h"

/* Puts what is particular to a connection's generation, or a pod, into a ring. Whether it could; if not, `hook` has counted it. */
static __always_inline bool event_in(void *ring, enum hook hook, enum event_kind kind, __u32 conn, __u32 gen)
{
	struct event *e = bpf_ringbuf_reserve(ring, sizeof(*e), 0);

	if (!e) {
		count(hook, REASON_EVENT_LOST);
		return false;
	}
	e->kind = kind;
	e->conn = conn;
	e->gen = gen;
	e->packet_id = 0;
	e->qos = 0;
	e->frame_len = 0;
	e->ifindex = 0;
	e->hold = HOLD_NONE;
	bpf_ringbuf_submit(e, 0);
	return true;
}

/* Notifies userspace as event_in says. */
static __always_inline bool event_simple(enum hook hook, enum event_kind kind, __u32 conn, __u32 gen)
{
	return event_in(&events, hook, kind, conn, gen);
}

#endif
