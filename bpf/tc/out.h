/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * out.h - TC egress, the same for node and pod interfaces: everything that
 * the local sockets send is translated to wire space; the first packet of an
 * armed connection seeds its ledger.
 */
#include "../include/group.h"
#include "../include/resend.h"
#include "../include/socket.h"

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
		if (!d->at_boundary || seed->copied_seq != seed->rcv_nxt)
			c->flags |= CONN_LOST;
		if (d->stopped)
			c->flags |= CONN_NO_TAKE;
	}
	c->state = CONN_OPEN;
}

/* The ledger hears of the local socket's segment; s->tx says what becomes of it. Under the lock. */
static __always_inline void out_account(struct conn *c, struct scratch *s, __u32 now_ms)
{
	const struct segment *seg = &s->packet.seg;
	bool again = seg->len && seq_lt(seg->seq, c->tx_knxt);

	conn_tx(c, seg, &s->tx, now_ms);
	if (again)
		again_note(&c->tx_again, s->tx.seq, seg->seq, s->tx.len);
}

/* A clone of a segment becomes one piece of it: s->tx.len bytes from s->packet's front on. Returns 0 or -1. */
static __always_inline int out_piece(struct __sk_buff *skb, struct scratch *s)
{
	struct packet *p = &s->packet;

	if (skb_cut(skb, s, s->tx.len))
		return -1;
	p->seg.len = s->tx.len;
	if (p->front && skb_close_up(skb, s, s->frame.pseudo_sum))
		return -1;
	return skb_translate(skb, p, s->tx.seq, s->tx.ack, s->tx.wnd);
}

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

/*
 * The SACK blocks of a segment of the local socket become the peer's: s->tx says
 * what its acknowledgement is. Returns how many are left, or -1. A function of its
 * own, so that the verifier follows it once.
 */
__attribute__((noinline)) int out_blocks(struct __sk_buff *skb, __u32 hook)
{
	struct scratch *s = scratch_of(hook);
	struct conn *c;

	if (!s)
		return -1;
	if (s->packet.plain)
		return 0;
	c = conn_entry(s->conn);
	if (!c || skb_options(skb, s))
		return -1;
	if (!s->sack.came)
		return 0;
	bpf_spin_lock(&c->lock);
	sack_to_wire(&s->sack, c, s->packet.seg.ack, s->tx.ack);
	bpf_spin_unlock(&c->lock);
	return skb_options_store(skb, s) ? -1 : s->sack.count;
}

/* Pieces that a segment leaves in at most; more comes again. */
#define PIECES_MAX 64

/* A segment that reaches over insertions, while it leaves in pieces. */
struct pieces {
	struct __sk_buff *skb;
	struct scratch *s;
	struct conn *c;
	__u32 mss; /* 0: the segment is no longer than it may be */
	__u32 now_ms;
};

/* Whether what s->tx says of the rest is all of it: it leaves as it is. */
static __always_inline bool pieces_last(const struct scratch *s, __u32 mss)
{
	return !s->tx.cut && (!mss || s->tx.len <= mss);
}

/* One piece leaves in a clone. */
static long piece_step(__u64 index, void *data)
{
	struct pieces *x = data;
	struct scratch *s = x->s;
	struct packet *p = &s->packet;
	__u32 payload = p->payload, front = p->front, len = p->seg.len;
	struct conn *c = x->c;

	if (pieces_last(s, x->mss))
		return 1;
	if (x->mss && s->tx.len > x->mss)
		s->tx.len = x->mss; /* cutting undoes segmentation offload */
	s->shape = SHAPE_CUT;
	x->skb->mark |= knob_mark;
	if (bpf_clone_redirect(x->skb, x->skb->ifindex, 0))
		count(s->hook, REASON_REDIRECT_ERROR);
	x->skb->mark &= ~knob_mark;
	s->shape = SHAPE_NONE;
	p->payload = payload;
	p->front = front;
	p->seg.len = len;
	packet_advance(p, s->tx.len);
	bpf_spin_lock(&c->lock);
	if (conn_live(c) && c->tuple.remote_port == p->tuple.remote_port)
		out_account(c, s, x->now_ms);
	bpf_spin_unlock(&c->lock);
	return 0;
}

/*
 * The local socket does not know of insertions: what it sends again may reach over
 * some. It leaves in pieces, each at its place; the last one is the skb. Returns the TC
 * verdict. A function of its own, so that the verifier follows it once.
 */
__attribute__((noinline)) int out_pieces(struct __sk_buff *skb, __u32 hook)
{
	struct pieces x = { .skb = skb, .mss = skb->gso_size };
	struct scratch *s = scratch_of(hook);
	struct segment whole;

	if (!s)
		return TC_DROP;
	x.s = s;
	x.c = conn_entry(s->conn);
	if (!x.c)
		return TC_DROP;
	x.now_ms = bpf_ktime_get_ns() / 1000000;
	whole = s->packet.seg;
	s->frame.pseudo_sum = x.c->pseudo_sum;
	bpf_loop(PIECES_MAX, piece_step, &x, 0);
	if (!pieces_last(s, x.mss) || skb_close_up(skb, s, s->frame.pseudo_sum))
		return counted(hook, REASON_CUT_ERROR, TC_DROP);
	bpf_spin_lock(&x.c->lock);
	if (x.c->tuple.remote_port == s->packet.tuple.remote_port)
		conn_frame_to(x.c, &whole, s->framed, &s->framing);
	bpf_spin_unlock(&x.c->lock);
	if (skb_translate(skb, &s->packet, s->tx.seq, s->tx.ack, s->tx.wnd))
		return counted(hook, REASON_TRANSLATE_ERROR, TC_DROP);
	return counted(hook, REASON_TRANSLATED, TC_PASS);
}

/* Somebody connects to a pod, and it is no slot: if it is asleep it is woken. */
static __always_inline void out_knock(enum hook hook, const struct packet *p)
{
	struct listener at = { .port = p->tuple.remote_port };
	struct pod *pod;
	__u32 *index;

	memcpy(at.address, p->tuple.remote, sizeof(at.address));
	index = bpf_map_lookup_elem(&asleep, &at);
	if (!index)
		return;
	pod = bpf_map_lookup_elem(&pods, index);
	if (pod)
		pod_rouse(hook, pod);
}

/* Verdicts of out_segment where out_leave, and of that where out_pieces has the last word. */
#define OUT_LEAVE  100
#define OUT_PIECES 101

/*
 * The ledger hears of a segment of the local socket. Returns the TC verdict, or
 * OUT_LEAVE. A function of its own, for the size of the stack.
 */
__attribute__((noinline)) int out_segment(struct __sk_buff *skb, __u32 hook, __u32 device)
{
	struct scratch *s = scratch_of(hook);
	struct device *d = NULL;
	struct packet *p;
	struct seed seed = {};
	bool seeding, seeded = false, translated = false;
	__u32 conn, now_ms, front;
	__u64 now;
	struct conn *c;

	if (!s)
		return TC_PASS;
	p = &s->packet;
	if (skb_parse(skb, false, p) != PARSE_TCP)
		return TC_PASS;
	c = flow_find(&p->tuple, &conn);
	if (!c && !device && (p->seg.flags & (TH_SYN | TH_ACK)) == TH_SYN)
		out_knock(hook, p);
	if (!c || (conn >= knob_slots) != device)
		return TC_PASS;
	if (device) {
		d = device_entry(conn);
		if (!d)
			return counted(hook, REASON_NO_ENTRY, TC_PASS);
	}
	if (p->seg.flags & TH_SYN) {
		if (!device)
			return skb_strip_syn(skb, p) ? counted(hook, REASON_SYN_ERROR, TC_DROP)
						     : counted(hook, REASON_SLOT_SYN, TC_PASS);
		/* A SYN-ACK to this 4-tuple: whatever was here belongs to the past. */
		bpf_spin_lock(&c->lock);
		if (c->state != CONN_FREE) {
			c->gen++;
			c->state = CONN_FREE;
		}
		bpf_spin_unlock(&c->lock);
		return counted(hook, REASON_REUSED, TC_PASS);
	}
	if (c->state == CONN_FREE)
		return counted(hook, REASON_NOT_OPEN, TC_PASS);
	/* CONNACK is the first payload after arming; a slot's handshake ends with a bare ACK. */
	seeding = c->state == CONN_ARMED && !(p->seg.flags & (TH_RST | TH_FIN)) && (p->seg.flags & TH_ACK) &&
		  (p->seg.len || !device);
	if (seeding && ((device && !seed_connack(skb, p)) || !seed_read(skb, p->seg.seq, &seed)))
		return counted(hook, REASON_NOT_OPEN, TC_PASS);
	front = p->seg.len;
	if (device && front) {
		/* the socket sends one segment after another: nobody else follows them */
		front = seeding ? 0 : conn_framed(c, &p->seg);
		s->framing = c->tx_framing;
		if (seeding)
			memset(&s->framing, 0, sizeof(s->framing));
		if (front < p->seg.len)
			skb_framing(skb, s, front, false);
	}
	now = bpf_ktime_get_ns();
	now_ms = now / 1000000;
	bpf_spin_lock(&c->lock);
	if (c->tuple.remote_port == p->tuple.remote_port) {
		if (c->state == CONN_ARMED && seeding) {
			seed_apply(c, d, p, &seed, now_ms);
			seeded = true;
			conn_frame_to(c, &p->seg, front, &s->framing);
		} else if (conn_live(c)) {
			out_account(c, s, now_ms);
			if (!s->tx.cut)
				conn_frame_to(c, &p->seg, front, &s->framing);
			if (device && !p->seg.len && !(p->seg.flags & (TH_FIN | TH_RST)))
				s->tx.seq = conn_before_notified(c, s->tx.seq, now / 1000);
			translated = true;
		}
		if (p->seg.len)
			c->data_us = now / 1000;
	}
	bpf_spin_unlock(&c->lock);
	if (!translated)
		return counted(hook, seeded ? REASON_SEEDED : REASON_NOT_OPEN, TC_PASS);
	if (s->tx.reset & CONN_BROKEN) {
		attend(c, conn);
		count(hook, REASON_BROKEN);
		event_simple(hook, EVENT_BROKEN, conn, c->gen);
	}
	s->hook = hook;
	s->conn = conn;
	s->framed = front;
	return OUT_LEAVE;
}

/*
 * What s->tx says becomes of the segment, which has so many blocks. Returns the TC
 * verdict, or OUT_PIECES. A function of its own, for the size of the stack.
 */
__attribute__((noinline)) int out_leave(struct __sk_buff *skb, __u32 hook, __u32 blocks)
{
	struct scratch *s = scratch_of(hook);
	__u32 mss = skb->gso_size;

	if (!s)
		return TC_DROP;
	if (s->tx.hold && !blocks) /* blocks are news */
		return counted(hook, REASON_HELD, TC_DROP);
	if (s->tx.cut) {
		count(hook, REASON_TRIMMED);
		if (skb->len <= SKB_LARGE)
			return OUT_PIECES;
		if (mss && s->tx.len > mss)
			s->tx.len = mss; /* cutting undoes segmentation offload */
		if (skb_cut(skb, s, s->tx.len))
			return counted(hook, REASON_CUT_ERROR, TC_DROP);
	}
	if (skb_translate(skb, &s->packet, s->tx.seq, s->tx.ack, s->tx.wnd))
		return counted(hook, REASON_TRANSLATE_ERROR, TC_DROP);
	return counted(hook, REASON_TRANSLATED, TC_PASS);
}

static __always_inline int out(struct __sk_buff *skb, enum hook hook, bool device)
{
	int verdict, blocks;

	if ((skb->mark & knob_mark) == knob_mark) {
		skb->mark &= ~knob_mark;
		if (out_shape(skb, hook))
			return counted(hook, REASON_SHAPE_ERROR, TC_DROP);
		return counted(hook, REASON_INJECTED, TC_PASS);
	}
	verdict = out_segment(skb, hook, device);
	if (verdict != OUT_LEAVE)
		return verdict;
	blocks = out_blocks(skb, hook);
	if (blocks < 0)
		return counted(hook, REASON_TRANSLATE_ERROR, TC_DROP);
	verdict = out_leave(skb, hook, blocks);
	return verdict == OUT_PIECES ? out_pieces(skb, hook) : verdict;
}

/* TC egress of the node interfaces. */
SEC("tc")
int tc_device_out(struct __sk_buff *skb)
{
	return out(skb, HOOK_TC_DEVICE_OUT, true);
}

/* TC egress of the pod interfaces. */
SEC("tc")
int tc_pod_out(struct __sk_buff *skb)
{
	return out(skb, HOOK_TC_POD_OUT, false);
}
