/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* notice.h - what a device is notified of in one segment. */
#ifndef EPROXY_REPLY_NOTICE_H
#define EPROXY_REPLY_NOTICE_H

#include "../mech/send.h"
#include "../work/scratch.h"

/* Nobody is notified of anything. */
static __always_inline void notice_clear(struct notice *t)
{
	t->device = NO_INDEX;
	t->len = 0;
	t->dups = 0;
}

/* The device's notice leaves as a clone of the skb, and so do the duplicate acknowledgements that waited for it. */
static __always_inline void notice_flush(struct __sk_buff *skb, struct scratch *s)
{
	struct notice *t = &s->notice;

	skb_send_clone(skb, &s->shape, SHAPE_NOTICE, HOOK_TC_POD_IN, &t->frame);
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < DUPS_MAX; i++)
	{
		if (i >= afresh(t->dups))
			break;
		frame_bare(&t->frame, t->seq + t->len);
		skb_send_clone(skb, &s->shape, SHAPE_NOTICE, HOOK_TC_POD_IN, &t->frame);
	}
	notice_clear(t);
}

#endif
