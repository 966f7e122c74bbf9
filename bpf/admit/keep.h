/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * keep.h - a PUBLISH that the end of a segment cuts in two. What is here of it is kept, and the
 * segment that brings the rest is then handled as if it began where the message does. The
 * connection's books know nothing of it: what is kept counts as not received, is not
 * acknowledged, and so promised to nobody. Whatever else happens (it comes again, something else comes, the entry is
 * needed by another connection), the device still has it.
 *
 * It is kept only if the rest is about to come without waiting for an acknowledgement:
 * the sender has said, by not setting PSH, that it has more to send (RFC 9293 section
 * 3.9.1.2), and the rest fits a segment. A client that writes half a message and then the rest sets PSH;
 * one that waits for the acknowledgement all the same (Nagle) sends the half again, and is not
 * trusted for a while.
 */
#ifndef EPROXY_ADMIT_KEEP_H
#define EPROXY_ADMIT_KEEP_H

#include "../mech/cut.h"
#include "../mech/verdict.h"
#include "../work/scratch.h"

/* What is kept is of use for so long: the least time after which a common stack sends it again. */
#define KEPT_MS 200

/* So many beginnings of a connection are not kept after one that was kept in vain. */
#define KEEP_REST 32

static __always_inline bool kept_claim(struct kept *k)
{
	__u32 old = __sync_fetch_and_or(&k->busy, 1);

	opaque(old); /* what uses its result is a full barrier */
	return !old;
}

static __always_inline void kept_release(struct kept *k)
{
	__u32 old = __sync_fetch_and_and(&k->busy, 0);

	opaque(old);
}

/* Whether something is kept that may still be of use. The entry is claimed, or this is a guess. */
static __always_inline bool kept_live(const struct kept *k, __u32 now_ms)
{
	return k->len && now_ms - k->ms < KEPT_MS;
}

/*
 * Keeps what is left of the segment, the beginning of the message whose fixed header is in s->publish. If the segment is
 * to come again (again), it does so without that. Returns 1 if it is kept, else 0. A function of its own, so
 * that the verifier follows it once.
 */
__attribute__((noinline)) int keep_beginning(struct __sk_buff *skb, __u32 conn, __u32 again)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	__u32 now_ms = bpf_ktime_get_ns() / 1000000, len, whole, room;
	struct device *d = device_entry(conn);
	struct conn *c = conn_entry(conn);
	struct kept *k = kept_entry(conn);
	bool ok = false;

	if (!s || !d || !c || !k)
		return 0;
	len = s->packet.seg.len;
	whole = s->publish.length;
	room = skb->gso_size ? skb->gso_size : s->packet.front + len;
	if ((s->packet.seg.flags & (TH_PSH | TH_FIN)) || whole > KEPT_MAX || whole <= len || whole - len > room)
		return 0;
	if (d->keep_rest) {
		d->keep_rest--;
		return 0;
	}
	if (!kept_claim(k))
		return 0;
	if ((k->conn == conn || !kept_live(k, now_ms)) && within(len, 1, KEPT_MAX) &&
	    !bpf_skb_load_bytes(skb, s->packet.payload, k->bytes, len)) {
		k->conn = conn;
		k->gen = s->origin.gen;
		k->seq = s->packet.seg.seq;
		k->len = len;
		k->whole = whole;
		k->ms = now_ms;
		ok = true;
	}
	kept_release(k);
	if (!ok)
		return 0;
	/* Another processor may have passed what follows: then this is missing. */
	bpf_spin_lock(&c->lock);
	ok = c->gen == s->origin.gen && c->state == CONN_OPEN && conn_next(c, s->packet.seg.seq);
	if (ok)
		d->kept = 1;
	bpf_spin_unlock(&c->lock);
	if (ok && again && skb_cut(skb, &s->packet, s->work, 0))
		ok = false;
	return ok;
}

/*
 * The connection has the beginning of a message kept, and a segment with payload comes. If that brings the rest it is from now
 * on one that begins where the message does: s->admit.kept says how much of it is not in the packet, and the entry
 * stays claimed until keep_end or keep_vain. Returns 1 if all of the segment is kept, too: it ends within the message, and more
 * follows; else 0. A function of its own, so that the verifier follows it once.
 */
__attribute__((noinline)) int keep_meet(struct __sk_buff *skb, __u32 conn)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	__u32 now_ms = bpf_ktime_get_ns() / 1000000, len, rest, more;
	struct device *d = device_entry(conn);
	struct conn *c = conn_entry(conn);
	struct kept *k = kept_entry(conn);
	struct rx_verdict v = {};
	struct packet *p;
	bool ok;

	if (!s || !d || !c || !k || !kept_claim(k))
		return 0;
	p = &s->packet;
	len = k->len;
	rest = k->whole - len;
	if (k->conn != conn || k->gen != *(volatile __u32 *)&c->gen || !k->len || !conn_next(c, k->seq)) {
		d->kept = 0; /* it is of no use any more */
	} else if (p->seg.seq == k->seq) {
		/* it comes again: the device waits for its acknowledgement */
		k->len = 0;
		d->kept = 0;
		d->keep_rest = KEEP_REST;
		count(HOOK_TC_DEVICE_IN, REASON_KEPT_VAIN);
	} else if (p->seg.seq == k->seq + len && !(p->seg.flags & (TH_SYN | TH_RST | TH_URG)) && kept_live(k, now_ms)) {
		more = p->seg.len < rest ? p->seg.len : rest;
		if (!within(len, 1, KEPT_MAX) || !within(more, 1, KEPT_MAX) ||
		    bpf_skb_load_bytes(skb, p->payload, k->bytes + len, more)) {
			kept_release(k);
			return 0;
		}
		if (p->seg.len < rest && p->seg.flags == TH_ACK) {
			/* what takes a message asks the same: only who is let in by its acknowledgement adds to one */
			bpf_spin_lock(&c->lock);
			ok = c->gen == k->gen && c->state == CONN_OPEN && conn_next(c, k->seq) &&
			     conn_rx_ack(c, &p->seg, &v, now_ms);
			bpf_spin_unlock(&c->lock);
			if (!ok) {
				kept_release(k);
				return 0;
			}
			k->len += more;
			k->ms = now_ms;
			s->origin.gen = k->gen;
			kept_release(k);
			return 1;
		}
		p->payload -= len;
		p->front -= len;
		p->seg.seq -= len;
		p->seg.len += len;
		s->admit.kept = len;
		return 0;
	}
	kept_release(k);
	return 0;
}

/* The message whose beginning was kept is taken: the rest of the segment is all in the packet. */
static __always_inline void keep_end(struct scratch *s)
{
	struct kept *k = kept_entry(s->conn);
	struct device *d = device_entry(s->conn);

	s->admit.kept = 0;
	if (!k || !d)
		return;
	d->kept = 0;
	k->len = 0;
	kept_release(k);
}

/*
 * The message whose beginning was kept is not taken: the skb becomes the segment that this came in, less what
 * was taken of it, and what it was comes again behind that. What is too long to be made shorter passes as it is, beyond what is
 * missing: the device sends that again. Returns 0, or -1 if the skb is of no use. A function of its own, so that the verifier follows it once.
 */
__attribute__((noinline)) int keep_vain(struct __sk_buff *skb, __u32 conn)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);
	struct device *d = device_entry(conn);
	struct conn *c = conn_entry(conn);
	struct kept *k = kept_entry(conn);
	__u32 len, was, tcp_len, sum, pseudo_sum;
	struct packet *p;
	struct tcphdr tcp;
	bool partial, same;
	int ret = 0;

	if (!s || !d || !c || !k)
		return 0;
	p = &s->packet;
	len = afresh(s->admit.kept);
	s->admit.kept = 0;
	p->payload += len;
	p->front += len;
	p->seg.seq += len;
	p->seg.len -= len;
	d->kept = 0;
	d->keep_rest = KEEP_REST;
	k->len = 0;
	count(HOOK_TC_DEVICE_IN, REASON_KEPT_VAIN);
	bpf_spin_lock(&c->lock);
	same = c->gen == k->gen;
	pseudo_sum = c->pseudo_sum;
	bpf_spin_unlock(&c->lock);
	if (!same || skb->len > SKB_LARGE || bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS))
		goto out;
	tcp_len = packet_tcp_len(p);
	was = p->seg.len;
	p->seg.seq -= len;
	p->seg.len = len;
	partial = skb_ip_summed(skb) == CHECKSUM_PARTIAL;
	if (!within(len, 1, KEPT_MAX) || bpf_skb_change_tail(skb, p->payload + len, 0) ||
	    bpf_skb_store_bytes(skb, p->payload, k->bytes, len, BPF_F_RECOMPUTE_CSUM) ||
	    skb_tcp_len(skb, p, bpf_htons(tcp_len + was), bpf_htons(tcp_len + len)) ||
	    bpf_skb_load_bytes(skb, p->l4, &tcp, sizeof(tcp))) {
		ret = -1;
		goto out;
	}
	p->seg.flags &= TH_ACK;
	*(__u64 *)(k->bytes + len) = 0;
	sum = buffer_sum(k->bytes, len, 0);
	if (tcp_len != sizeof(tcp))
		sum = bpf_csum_diff(NULL, 0, (__be32 *)s->sack.before, OPTIONS_MAX, sum);
	tcp.seq = bpf_htonl(p->seg.seq);
	tcp.check = 0;
	((__u8 *)&tcp)[13] = p->seg.flags;
	tcp_checksum(&tcp, partial, pseudo_sum + bpf_htons(tcp_len + len), sum);
	if (bpf_skb_store_bytes(skb, p->l4, &tcp, sizeof(tcp), BPF_F_RECOMPUTE_CSUM))
		ret = -1;
out:
	kept_release(k);
	return ret;
}

#endif
