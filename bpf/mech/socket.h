/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* socket.h - what the kernel's own socket of a connection tells about it. */
#ifndef EPROXY_MECH_SOCKET_H
#define EPROXY_MECH_SOCKET_H

#include "skb.h"

/* Values of sk_state (include/net/tcp_states.h). */
#define TCP_ESTABLISHED 1
#define TCP_LISTEN	10

/* Fields of the kernel's structs (include/linux/tcp.h, include/linux/rbtree.h, include/net/tcp.h). */
struct tcp_options_received {
	__u16 sack_ok : 3, snd_wscale : 4, rcv_wscale : 4;
} __attribute__((preserve_access_index));

struct rb_root {
	void *rb_node;
} __attribute__((preserve_access_index));

struct tcp_skb_cb {
	__u32 end_seq;
} __attribute__((preserve_access_index));

struct tcp_sock {
	__u32 rcv_nxt;
	__u32 copied_seq;
	__u32 snd_una;
	__u32 snd_nxt;
	__u32 snd_wnd;
	__u32 mss_cache;
	struct tcp_options_received rx_opt;
	__u32 rcv_wup;
	__u32 rcv_wnd;
	struct rb_root out_of_order_queue;
	struct sk_buff *ooo_last_skb;
	__u32 srtt_us; /* times eight */
} __attribute__((preserve_access_index));

/* What a socket has received, kernel positions. */
struct received {
	__u32 rcv_nxt; /* in order */
	__u32 edge;    /* right edge of its window */
};

/* Kernel position at which the socket's out-of-order queue ends; that of the next byte if there is none. */
static __always_inline __u32 socket_queued(struct tcp_sock *tp)
{
	__u32 nxt = tp->rcv_nxt, end;
	struct tcp_skb_cb *cb;

	opaque(nxt); /* else clang makes one load of this and of end, from different pointers */
	if (!tp->out_of_order_queue.rb_node)
		return nxt;
	cb = (struct tcp_skb_cb *)&tp->ooo_last_skb->cb;
	return bpf_probe_read_kernel(&end, sizeof(end), &cb->end_seq) ? nxt : end;
}

/*
 * Asks the local socket of the segment's connection. Returns false if none has
 * this 4-tuple. What it says may be old when the connection's lock is held.
 */
static __always_inline bool socket_received(struct __sk_buff *skb, const struct packet *p, struct received *r)
{
	struct bpf_sock_tuple t = {};
	struct tcp_sock *tp;
	struct bpf_sock *sk;
	bool found = false;

	if (p->ipv6) {
		memcpy(t.ipv6.saddr, p->tuple.remote, 16);
		memcpy(t.ipv6.daddr, p->tuple.local, 16);
		t.ipv6.sport = p->tuple.remote_port;
		t.ipv6.dport = p->tuple.local_port;
	} else {
		t.ipv4.saddr = p->tuple.remote[3];
		t.ipv4.daddr = p->tuple.local[3];
		t.ipv4.sport = p->tuple.remote_port;
		t.ipv4.dport = p->tuple.local_port;
	}
	sk = bpf_skc_lookup_tcp(skb, &t, p->ipv6 ? sizeof(t.ipv6) : sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return false;
	tp = sk->state == TCP_LISTEN ? NULL : (struct tcp_sock *)bpf_skc_to_tcp_sock(sk);
	if (tp) {
		r->rcv_nxt = tp->rcv_nxt;
		r->edge = tp->rcv_wup + tp->rcv_wnd;
		found = true;
	}
	bpf_sk_release(sk);
	return found;
}

#endif
