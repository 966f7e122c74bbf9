/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* seed.h - what the first packet of an armed connection tells, and its socket. */
#ifndef EPROXY_TC_SEED_H
#define EPROXY_TC_SEED_H

#include "../mech/frame.h"
#include "../mech/socket.h"
#include "../work/scratch.h"

/* What a socket tells about its connection. */
struct seed {
	__u32 rcv_nxt;
	__u32 queued; /* end of its out-of-order queue */
	__u32 copied_seq;
	__u32 snd_una;
	__u32 snd_wnd;
	__u32 mss;
	__u32 srtt; /* 1/8 ms */
	__u32 sack_ok;
	__u8 snd_wscale;
	__u8 rcv_wscale;
	__u16 vlan_tci;
	__u8 dst_mac[6];
	__u8 src_mac[6];
	__u32 ifindex;
};

static __always_inline bool seed_read(struct __sk_buff *skb, __u32 seq, struct seed *seed)
{
	struct ethhdr *eth = (void *)(long)skb->data;
	struct bpf_sock *sk = skb->sk;
	struct tcp_sock *tp;

	if ((void *)(eth + 1) > (void *)(long)skb->data_end)
		return false;
	memcpy(seed->dst_mac, eth->h_dest, 6);
	memcpy(seed->src_mac, eth->h_source, 6);
	seed->ifindex = skb->ifindex;
	seed->vlan_tci = skb->vlan_present ? skb->vlan_tci : 0;
	if (!sk)
		return false;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return false;
	tp = (struct tcp_sock *)bpf_skc_to_tcp_sock(sk);
	/* the kernel moves SND.NXT on behind us; what lies below it is no beginning */
	if (!tp || tp->snd_nxt != seq)
		return false;
	seed->rcv_nxt = tp->rcv_nxt;
	seed->queued = socket_queued(tp);
	seed->copied_seq = tp->copied_seq;
	seed->snd_una = tp->snd_una;
	seed->snd_wnd = tp->snd_wnd;
	seed->mss = tp->mss_cache;
	/* at least one millisecond, as recovery_measure has it: 0 would say that none was measured */
	seed->srtt = !tp->srtt_us ? 0 : tp->srtt_us < 8000 ? 8 : tp->srtt_us / 1000;
	seed->sack_ok = BPF_CORE_READ_BITFIELD(tp, rx_opt.sack_ok);
	seed->snd_wscale = BPF_CORE_READ_BITFIELD(tp, rx_opt.snd_wscale);
	seed->rcv_wscale = BPF_CORE_READ_BITFIELD(tp, rx_opt.rcv_wscale);
	return true;
}

/* Whether the segment begins with CONNACK (MQTT 3.1.1 section 3.2). */
static __always_inline bool seed_connack(struct __sk_buff *skb, const struct packet *p)
{
	__u8 type;

	return !bpf_skb_load_bytes(skb, p->payload, &type, 1) && type == 0x20;
}

/* An armed connection's ledger begins. Under the lock. */
static __always_inline void seed_apply(struct conn *c, struct device *d, const struct packet *p,
				       const struct seed *seed, __u32 now_ms)
{
	c->rx_kack = p->seg.ack;
	c->rx_acked = p->seg.ack;
	c->rx_wscale = seed->rcv_wscale;
	c->rx_rawwnd = p->seg.wnd;
	c->rx_edge = p->seg.ack + ((__u32)p->seg.wnd << seed->rcv_wscale);
	conn_seed(c, seed->rcv_nxt, d ? seed->queued : seed->rcv_nxt);
	c->flags = (p->ipv6 ? CONN_IPV6 : 0) | (seed->sack_ok ? CONN_SACK : 0);
	c->srtt = seed->srtt;
	c->rttvar = seed->srtt / 4; /* half of the first one (RFC 6298 section 2.2) */
	c->rtt_low = 2 * seed->srtt;
	c->tx_nxt = p->seg.seq + p->seg.len;
	c->tx_knxt = c->tx_nxt;
	c->tx_framed = p->seg.seq; /* userspace arms it between two packets */
	memset(&c->tx_framing, 0, sizeof(c->tx_framing));
	c->tx_una = seed->snd_una;
	c->tx_kuna = seed->snd_una;
	c->tx_wnd = seed->snd_wnd;
	c->tx_max_wnd = seed->snd_wnd;
	c->tx_wscale = seed->snd_wscale;
	c->tx_rawwnd = seed->snd_wnd >> seed->snd_wscale;
	c->tx_mss = seed->mss;
	c->vlan_tci = seed->vlan_tci;
	c->ifindex = seed->ifindex;
	memcpy(c->dst_mac, seed->dst_mac, 6);
	memcpy(c->src_mac, seed->src_mac, 6);
	c->last_ms = now_ms;
	frame_sums(c);
	if (d) {
		/* the stream that userspace has read began here */
		d->anchor = seed->copied_seq - d->read;
		if (!(d->arm & ARM_BOUNDARY) || seed->copied_seq != seed->rcv_nxt)
			c->flags |= CONN_LOST;
		if (d->arm & ARM_CLEAR) {
			c->rx_clear = seed->copied_seq;
			c->flags |= CONN_CLEAR;
		}
		if (d->stopped)
			c->flags |= CONN_NO_TAKE;
	}
	c->state = CONN_OPEN;
}

#endif
