/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * attention.h - which connections the sweeper looks at (sweep.h): those that may
 * need something that no packet brings about. Whoever changes a slot, or what a
 * device is to be acknowledged, calls attend() behind the critical section in which
 * it did. Nothing is looked at for the others, and while there are none the timer
 * does not run.
 *
 * No change is overlooked, although the bit is seldom touched while it is set. The
 * sweeper clears a connection's bit before it enters the critical section in which
 * it looks, and clears `attended` inside it, unless it sets the bit again. If that
 * section comes after the change it sees the change. If it comes before, so does
 * its clearing of `attended`, and who has changed something finds 0 there and sets
 * the bit. The same with the timer: it says that it stops, then looks for bits once
 * more; who sets a bit then looks whether it has stopped; each with a full barrier in
 * between, so that at least one of them sees the other.
 */
#ifndef EPROXY_MECH_ATTENTION_H
#define EPROXY_MECH_ATTENTION_H

#include "entries.h"

/* Milliseconds between two passes of the sweeper, and until the first one after it was started. */
#define SWEEP_MS 100

/* Starts the sweeper's timer if it has stopped: behind setting a bit, with a full barrier between. */
static __always_inline void attention_start(struct sweeper *w)
{
	if (*(volatile __u32 *)&w->stopped && __sync_fetch_and_and(&w->stopped, 0))
		bpf_timer_start(&w->timer, (__u64)SWEEP_MS * 1000000, 0);
}

/*
 * Has the sweeper look at the connection with this conn index. Returns 0. A function of
 * its own, so that the verifier follows it once.
 */
__attribute__((noinline)) int attention_set(__u32 conn)
{
	__u32 word = conn / 64, only = 0;
	__u64 *bits = bpf_map_lookup_elem(&attention, &word), old;
	struct sweeper *w = bpf_map_lookup_elem(&sweepers, &only);
	struct conn *c = conn_entry(conn);

	if (!bits || !w || !c)
		return 0;
	*(volatile __u8 *)&c->attended = 1;
	old = __sync_fetch_and_or(bits, 1ull << (conn & 63));
	opaque(old); /* what uses its result is a full barrier */
	attention_start(w);
	return 0;
}

/* The same of a connection that the caller has; no lock is held. */
static __always_inline void attend(const struct conn *c, __u32 conn)
{
	if (!*(const volatile __u8 *)&c->attended)
		attention_set(conn);
}

#endif
