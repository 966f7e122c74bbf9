/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* send.h - the way to a pod. */
#ifndef EPROXY_UPSTREAM_SEND_H
#define EPROXY_UPSTREAM_SEND_H

#include "../mech/send.h"
#include "slot.h"

/* To the pod: straight into its namespace where that works, else through its interface's egress. */
static __always_inline int skb_to_pod(__u32 index, const struct frame *f)
{
	struct slot *slot = slot_entry(index);
	__u32 key = slot ? slot->pod : NO_INDEX;
	struct pod *pod = bpf_map_lookup_elem(&pods, &key);

	if (pod && pod->peer_ok)
		return bpf_redirect_peer(f->ifindex, 0);
	return bpf_redirect(f->ifindex, 0);
}

#endif
