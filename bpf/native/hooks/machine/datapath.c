/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * datapath.c - the whole of eproxy.bpf.c for the host. It is compiled with
 * -fsanitize=thread, not for the sanitizer, which is not linked, but for the
 * calls before every access to memory: sched.c makes points of them.
 */
#define __bpf__ 1
#include "pure/common.h"

/* All connections share what is kept of cut messages. */
#undef KEPT_ENTRIES
#define KEPT_ENTRIES 1

/* What only the verifier needs, and the host's assembler does not know. */
#undef can_loop
#define can_loop true
#undef unlinked
#define unlinked(x) (x)

/* Knobs that the machine can set. */
#define const
#include "mech/config.h"
#undef const

/* Mistakes that planted_test.go puts into its copy, one of them at a time. */
extern __u32 machine_planted;
#define planted(n) (machine_planted == (n))

#include "eproxy.bpf.c"

#include "machine.h"

extern struct machine machine;

_Static_assert(offsetof(struct tcp_sock, mss_cache) == 20 && offsetof(struct tcp_sock, rx_opt) == 24 &&
		       offsetof(struct tcp_sock, rcv_wup) == 28 && offsetof(struct tcp_sock, ooo_last_skb) == 48,
	       "struct kernel_sock of inside.h must follow");

void datapath_knobs(void)
{
	knob_hints = HINTS;
	machine.slot_count = &knob_slots;
	machine.pipeline = &knob_pipeline;
}

/* A tick of the sweeper's timer, if it runs, whatever time it is. */
void datapath_sweep(void)
{
	__u32 only = 0;
	struct sweeper *w = bpf_map_lookup_elem(&sweepers, &only);

	if (!*(volatile __u64 *)&w->timer)
		return;
	*(volatile __u64 *)&w->timer = 0;
	w->pass_ms = machine.now_ns / 1000000;
	w->count = 0;
	sweep_tick(NULL, NULL, w);
}
