/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* shape.h - clones become what TC ingress is just sending. */
#ifndef EPROXY_TC_SHAPE_H
#define EPROXY_TC_SHAPE_H

#include "pieces.h"
#include "../upstream/group.h"
#include "../upstream/resend.h"

/*
 * A clone of a segment with several messages or responses becomes what TC ingress
 * is just sending for one of them: this program runs inside its
 * bpf_clone_redirect, on the same processor. Returns 0, also if the packet is
 * finished already.
 */
__attribute__((noinline)) int out_shape(struct __sk_buff *skb, __u32 hook)
{
	struct scratch *s = scratch_of(hook), *d = scratch_of(HOOK_TC_DEVICE_IN), *p = scratch_of(HOOK_TC_POD_IN);
	struct scratch *u = scratch_of(SCRATCH_UNPARK);

	if (!s || !d || !p || !u)
		return 0;
	if (s->shape == SHAPE_CUT) {
		if (out_piece(skb, s))
			return -1;
	} else if (d->shape == SHAPE_REPAIR) {
		if (skb_make_small(skb, &d->frame, d->pubacks.bytes))
			return -1;
	} else if (d->shape == SHAPE_GROUP || u->shape == SHAPE_GROUP) {
		if (group_make(skb, d->shape == SHAPE_GROUP ? &d->group : &u->group))
			return -1;
	} else if (d->shape == SHAPE_PIECE || p->shape == SHAPE_PIECE) {
		if (piece_make(skb, d->shape == SHAPE_PIECE ? &d->piece : &p->piece))
			return -1;
	} else if (p->shape == SHAPE_BARE || d->shape == SHAPE_BARE) {
		if (skb_make_small(skb, p->shape == SHAPE_BARE ? &p->frame : &d->frame, p->notice.bytes))
			return -1;
	} else if (p->shape == SHAPE_NOTICE) {
		if (skb_make_small(skb, &p->notice.frame, p->notice.bytes))
			return -1;
	}
	skb->mark &= ~knob_mark;
	return 0;
}

#endif
