/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* abi_sweep.h - the timer behind control/sweep.h. */
#ifndef EPROXY_ABI_ABI_SWEEP_H
#define EPROXY_ABI_ABI_SWEEP_H

#include "abi_limits.h"

#define SWEEP_TAILS 512 /* connections that a pass may note, a power of two */

/* A connection whose oldest PUBACK, or request, is sent again at a time between two passes, unless it is acknowledged. */
struct tail {
	__u32 conn;
	__u32 due_ms; /* CLOCK_MONOTONIC */
};

/* The timer behind sweep.h. All but stopped is its own. */
struct sweeper {
	struct bpf_timer timer;
	__u32 stopped;	 /* 1: it does not run, and whoever sets a bit in attention starts it */
	__u32 next;	 /* conn index at which the next tick goes on */
	__u32 pass_ms;	 /* when the next pass begins, CLOCK_MONOTONIC; while next is 0 */
	__u32 found;	 /* connections that this pass has looked at */
	__u32 at;	 /* conn index, and */
	__u32 end;	 /* end of the range that is being looked through */
	__u32 budget;	 /* connections that may still be looked at in it */
	__u32 queues_ms; /* when the queues are looked at next */
	__u32 queues;	 /* of them that had messages */
	__u32 word;	 /* of the queues' bits that is being looked at */
	__u32 count;	 /* of tails */
	__u32 tail_ms;	 /* when the first of them is due */
	struct tail tails[SWEEP_TAILS];
};

#endif
