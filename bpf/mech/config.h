/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* config.h - knobs, set before load; the verifier prunes what is off. */
#ifndef EPROXY_CONFIG_H
#define EPROXY_CONFIG_H

#include "../pure/common.h"

/* Conn indexes below this are slots, from here on devices. */
volatile const __u32 knob_slots = 4096;
/*
 * The slots of all pods with the same bit lie side by side, 1 << knob_pod_shift of them (at least as many as
 * there are pods): most pods have few slots open, and the memory of a chunk of slots is that of many pods.
 */
volatile const __u32 knob_pod_shift = 0;
/* Request buffers of a slot, a power of two: the largest depth of any. */
volatile const __u32 knob_pipeline = 1;
/* Entries of the hints map, a power of two. */
volatile const __u32 knob_hints = 16384;
/* skb->mark bit that says "injected by eproxy"; cleared at ingress. */
volatile const __u32 knob_mark = 0x00e90000;
/* Bytes by which XDP may grow a packet at its head. 216 on veth (256 less struct xdp_frame). */
volatile const __u32 knob_headroom = 216;
/* A PUBACK that is not acknowledged for two round trips and this long is sent again: how long a device may delay an ACK, milliseconds. */
volatile const __u32 knob_puback_ms = 200;
/* Connections that one tick of the sweeper looks at, so that packets do not wait long behind it. */
volatile const __u32 knob_sweep = 512;

#endif
