/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reply.h - what becomes of a request is told to its origin, whatever kind that is of. */
#ifndef EPROXY_REPLY_REPLY_H
#define EPROXY_REPLY_REPLY_H

#include "device.h"

/* What a pod's segment brings about for one message: enum done_kind. */
static __always_inline void reply_outcome(struct __sk_buff *skb, struct scratch *s, const struct message *m, __u32 kind)
{
	switch (m->origin_kind) {
	case ORIGIN_DEVICE:
		device_outcome(skb, s, m, kind);
		break;
	}
}

/* The message is userspace's now, which finishes it. slot: that had it; NO_INDEX: it waited for one. */
static __always_inline void reply_leave(const struct message *m, __u32 slot)
{
	switch (m->origin_kind) {
	case ORIGIN_DEVICE:
		device_leave(m, slot);
		break;
	}
}

#endif
