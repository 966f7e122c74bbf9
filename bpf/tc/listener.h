/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* listener.h - which SYNs are for the MQTT server, and not only for its port. */
#ifndef EPROXY_TC_LISTENER_H
#define EPROXY_TC_LISTENER_H

#include "../mech/skb.h"
#include "../work/scratch.h"

#define AF_INET	 2
#define AF_INET6 10

/*
 * Whether the host would take the packet for itself, as far as its routing says,
 * its rules and VRFs with it: what it forwards is another host's. NOT_FWDED is a
 * route to this host, or none at all, in which case the packet is dropped later;
 * FWD_DISABLED says nothing of the address, but the interface forwards nothing.
 * All else is a route onwards, be its neighbour unknown, or one that refuses
 * (net/core/filter.c, bpf_ipv4_fib_lookup).
 */
static __always_inline bool packet_local(struct __sk_buff *skb, const struct packet *p)
{
	struct bpf_fib_lookup fib = {
		.family = p->ipv6 ? AF_INET6 : AF_INET,
		.l4_protocol = IPPROTO_TCP,
		.sport = p->tuple.remote_port,
		.dport = p->tuple.local_port,
		.ifindex = skb->ifindex,
	};

	if (p->ipv6) {
		memcpy(fib.ipv6_src, p->tuple.remote, 16);
		memcpy(fib.ipv6_dst, p->tuple.local, 16);
	} else {
		fib.ipv4_src = p->tuple.remote[3];
		fib.ipv4_dst = p->tuple.local[3];
	}
	switch (bpf_fib_lookup(skb, &fib, sizeof(fib), 0)) {
	case BPF_FIB_LKUP_RET_NOT_FWDED:
	case BPF_FIB_LKUP_RET_FWD_DISABLED:
		return true;
	}
	return false;
}

/*
 * Whether a SYN is addressed to the MQTT server: to an address and port that a
 * listener is bound to, or to a port that one is bound to on all addresses of
 * this host, and to this host. Returns 1 or 0. A function of its own, for the
 * size of the stack; the packet is the hook's.
 */
__attribute__((noinline)) int listener_syn(struct __sk_buff *skb)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	struct listener key = {};
	struct packet *p;

	if (!s)
		return 0;
	p = &s->packet;
	key.port = p->tuple.local_port;
	if (bpf_map_lookup_elem(&listeners, &key))
		return packet_local(skb, p);
	memcpy(key.address, p->tuple.local, 16);
	return !!bpf_map_lookup_elem(&listeners, &key);
}

#endif
