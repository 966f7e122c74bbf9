/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * pod_in.h - TC ingress at the pods' interfaces: a complete 2xx answer becomes
 * the PUBACK, everything else that a pod sends goes to the slot's socket.
 */
#include "../include/skb.h"

/* What is to be done after the slot's lock is released. */
enum pod_todo {
	TODO_NOTHING = 0,
	TODO_ANSWERED = 1,	/* the answer is complete: PUBACK or ACK to the device */
	TODO_DEVICE_ACK = 2,	/* the pod acknowledged the request: ACK to the device */
	TODO_POD_ACK = 4,	/* acknowledge what was removed */
	TODO_ATTENTION = 8,	/* tell userspace */
};

/* The message in flight, copied under the slot's lock. */
struct message {
	__u32 device;
	__u32 device_gen;
	__u32 device_seq;
	__u32 slot_gen;
	__u32 route;
	__u16 packet_id;
	__u8 qos;
	__u8 close_after;
	__u64 taken_ns;
};

static __always_inline void message_copy(struct message *m, const struct conn *c, const struct slot *slot)
{
	m->device = slot->device;
	m->device_gen = slot->device_gen;
	m->device_seq = slot->device_seq;
	m->slot_gen = c->gen;
	m->route = slot->route;
	m->packet_id = slot->packet_id;
	m->qos = slot->qos;
	m->close_after = slot->close_after;
	m->taken_ns = slot->taken_ns;
}

/* Decides whether this payload is removed from the stream. Under the lock; the segment is the next expected one. */
static __always_inline bool answer_take(struct slot *slot, const struct segment *seg, const struct http *http)
{
	__u32 total;

	switch (slot->state) {
	case SLOT_BUSY:
		total = http->head_len + http->body_len;
		if (!http->digestible || seg->len > total || (seg->flags & TH_FIN && seg->len < total)) {
			slot->state = SLOT_PASSING;
			return false;
		}
		slot->state = SLOT_ANSWERING;
		slot->left = total;
		slot->close_after = http->close;
		break;
	case SLOT_ANSWERING:
		if (seg->len > slot->left || (seg->flags & TH_FIN && seg->len < slot->left)) {
			slot->state = SLOT_RETIRED;
			return false;
		}
		break;
	default:
		return false;
	}
	slot->left -= seg->len;
	if (seg->flags & TH_FIN)
		slot->close_after = 1;
	return true;
}

/*
 * The payload just removed is done at once. Grown together with the one before
 * if nothing lies between: while the local socket has not acknowledged bytes
 * in front of them, none of them settles.
 */
static __always_inline void answer_removed(struct conn *c)
{
	struct graft *g = ledger_at(&c->rx, (__u32)c->rx.count - 1);
	struct graft *before = ledger_at(&c->rx, (__u32)c->rx.count - 2);

	ledger_done(&c->rx, g);
	if (c->rx.count >= 2 && before->state == GRAFT_DONE && before->seq + before->len == g->seq) {
		before->len += g->len;
		ledger_pop(&c->rx);
	}
}

/* Books for a device: the message is done; the frame that tells it. Returns whether it may be sent. */
static __always_inline bool device_tell(struct scratch *s, struct conn *dc, const struct message *m, __u32 slot,
					bool answered, __u32 now_ms, bool *handed, bool *quiet)
{
	struct stamp stamp;
	struct graft *g;
	bool known = false;

	bpf_spin_lock(&dc->lock);
	if (dc->gen == m->device_gen && (dc->state == CONN_OPEN || dc->state == CONN_CLOSED)) {
		conn_done(dc, slot, m->slot_gen, m->device_seq);
		known = true;
		if (answered && m->qos && (conn_crossing(dc, now_ms) || !conn_can_insert(dc, 4))) {
			*handed = true;
		} else {
			__u32 told = dc->rx_acked;

			conn_stamp(dc, &stamp);
			if (answered && m->qos) {
				g = conn_insert(dc, 4, now_ms);
				g->bytes[0] = 0x40;
				g->bytes[1] = 2;
				g->bytes[2] = m->packet_id >> 8;
				g->bytes[3] = m->packet_id;
				frame_fill(&s->frame, dc, &stamp, TH_ACK | TH_PSH, 4);
				memcpy(s->rx.graft.bytes, g->bytes, 4);
			} else {
				if (conn_crossing(dc, now_ms))
					stamp.seq = dc->tx_una; /* as conn_bare */
				frame_fill(&s->frame, dc, &stamp, TH_ACK, 0);
				/* an older message is still open: there is nothing to tell yet */
				*quiet = stamp.ack == told;
			}
		}
	}
	bpf_spin_unlock(&dc->lock);
	return known;
}

/* A PUBACK that could not be inserted goes to userspace, which writes it on the socket. */
static __always_inline bool puback_hand(const struct message *m)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return false;
	e->kind = EVENT_PUBACK;
	e->conn = m->device;
	e->gen = m->device_gen;
	e->packet_id = m->packet_id;
	e->qos = m->qos;
	e->frame_len = 0;
	e->ifindex = 0;
	e->pad = 0;
	bpf_ringbuf_submit(e, 0);
	return true;
}

/* The slot is free for the next request, or to be replaced. */
static __always_inline void slot_finish(struct conn *c, struct slot *slot, __u32 index, const struct message *m)
{
	bool idle = false, retired = false;

	bpf_spin_lock(&c->lock);
	if (c->gen == m->slot_gen && slot->state == SLOT_ANSWERED) {
		retired = m->close_after || c->state != CONN_OPEN || (c->flags & (CONN_FIN_SEEN | CONN_FIN_SENT));
		idle = !retired;
		slot->state = retired ? SLOT_RETIRED : SLOT_IDLE;
	}
	bpf_spin_unlock(&c->lock);
	if (idle)
		slot_set_idle(index, slot);
	if (retired) {
		count(HOOK_TC_POD_IN, REASON_SLOT_RETIRED);
		event_simple(EVENT_SLOT, index, m->slot_gen);
	}
}

static __always_inline void count_answered(const struct message *m, const struct slot *slot, __u64 now)
{
	__u32 key = m->route, pod = slot->pod, bucket = 0;
	struct route_stats *st = bpf_map_lookup_elem(&route_counters, &key);
	__u64 *n = bpf_map_lookup_elem(&pod_counters, &pod);
	__u64 ns = now - m->taken_ns, below;

	if (n)
		(*n)++;
	if (!st)
		return;
	st->answered[m->qos & 1]++;
	st->nanoseconds += ns;
	/* floor(log2(ns)) + 1: the bits that are set once everything below the highest is */
	below = ns;
	below |= below >> 1;
	below |= below >> 2;
	below |= below >> 4;
	below |= below >> 8;
	below |= below >> 16;
	below |= below >> 32;
	bucket = popcount64(below);
	if (bucket >= HIST_BUCKETS)
		bucket = HIST_BUCKETS - 1;
	st->hist[bucket]++;
}

/* Turns the skb into what the device is told. Returns the TC verdict. */
static __always_inline int answer_device(struct __sk_buff *skb, struct scratch *s, struct conn *c, struct slot *slot,
					 __u32 index, const struct message *m, bool answered, __u64 now)
{
	__u32 device = m->device;
	struct conn *dc = bpf_map_lookup_elem(&conns, &device);
	bool handed = false, quiet = false, known;
	int verdict;

	if (!dc)
		return TC_DROP;
	known = device_tell(s, dc, m, index, answered, now / 1000000, &handed, &quiet);
	if (answered)
		count_answered(m, slot, now);
	if (!known)
		count(HOOK_TC_POD_IN, REASON_DEVICE_GONE);
	if (handed) {
		count(HOOK_TC_POD_IN, REASON_PUBACK_HANDED);
		if (!puback_hand(m))
			return TC_DROP; /* stays SLOT_ANSWERED: the sweeper drains it */
	}
	if (answered)
		slot_finish(c, slot, index, m);
	if (known && !handed)
		count(HOOK_TC_POD_IN, answered ? REASON_ANSWERED : REASON_DONE_BY_ACK);
	if (!known || handed || quiet)
		return TC_DROP;
	verdict = skb_send_small(skb, &s->frame, s->rx.graft.bytes);
	if (verdict < 0) {
		count(HOOK_TC_POD_IN, REASON_REDIRECT_ERROR);
		return TC_DROP;
	}
	return verdict;
}

/* Something that userspace must see to: the slot's connection is ending or behaves oddly. */
static __always_inline __u32 slot_ending(struct slot *slot)
{
	switch (slot->state) {
	case SLOT_IDLE:
		slot->state = SLOT_RETIRED;
		return TODO_ATTENTION;
	case SLOT_ANSWERING:
	case SLOT_RETIRED:
		return TODO_ATTENTION;
	}
	return TODO_NOTHING;
}

/* TC ingress of the pod interfaces (struct __sk_buff). */
SEC("tc")
int tc_pod_in(struct __sk_buff *skb)
{
	struct scratch *s = scratch_of(HOOK_TC_POD_IN);
	enum rx_action action = RX_PASS_RAW;
	struct message m = {};
	struct stamp stamp;
	__u32 *found, index, look, todo = TODO_NOTHING;
	bool handed = false, moved = false;
	struct segment *seg;
	__u32 front = 0;
	struct slot *slot;
	struct conn *c;
	__u64 now;
	int verdict;

	if (!s)
		return TC_PASS;
	if (skb->mark & knob_mark)
		skb->mark &= ~knob_mark;
	if (skb_parse(skb, true, &s->packet) != PARSE_TCP)
		return TC_PASS;
	found = bpf_map_lookup_elem(&flows, &s->packet.tuple);
	if (!found || *found >= knob_slots)
		return TC_PASS;
	index = *found;
	c = bpf_map_lookup_elem(&conns, &index);
	slot = bpf_map_lookup_elem(&slots, &index);
	if (!c || !slot || (c->state != CONN_OPEN && c->state != CONN_CLOSED))
		return TC_PASS;
	seg = &s->packet.seg;
	if (skb_corrupt(skb, s, c)) {
		count(HOOK_TC_POD_IN, REASON_BAD_CHECKSUM);
		return TC_PASS;
	}
	if (seg->len && seg->seq != c->rx_nxt) {
		bpf_spin_lock(&c->lock);
		front = conn_front(c, seg);
		bpf_spin_unlock(&c->lock);
		packet_advance(&s->packet, front);
	}

	s->http.digestible = 0;
	if (seg->len && slot->state == SLOT_BUSY) {
		look = seg->len < HTTP_LOOK ? seg->len : HTTP_LOOK;
		opaque(look);
		if (look >= 1 && look <= HTTP_LOOK && !bpf_skb_load_bytes(skb, s->packet.payload, s->answer, look))
			http_parse(s->answer, look, &s->http);
	}

	now = bpf_ktime_get_ns();
	bpf_spin_lock(&c->lock);
	moved = front && (seg->seq != c->rx_nxt || !conn_front_ok(c, seg->seq - front));
	if (!moved && c->tuple.remote_port == s->packet.tuple.remote_port &&
	    c->tuple.local_port == s->packet.tuple.local_port) {
		__u32 fin = seg->flags & TH_FIN;

		if (seg->len && !(seg->flags & (TH_SYN | TH_RST)) && seg->seq == c->rx_nxt &&
		    !ledger_full(&c->rx, LEDGER_RING) && answer_take(slot, seg, &s->http)) {
			seg->take = 1;
			seg->flags &= ~TH_FIN; /* the answer first: the FIN comes again, or the slot is closed before */
		}
		action = conn_rx(c, seg, &s->rx, now / 1000000);
		if (slot->state == SLOT_BUSY && !slot->acked &&
		    seq_ge(c->tx_una, slot->request_seq + slot->request_len)) {
			slot->acked = 1;
			todo |= TODO_DEVICE_ACK;
		}
		if (action == RX_TAKE) {
			answer_removed(c);
			if (slot->left) {
				todo = TODO_POD_ACK;
			} else {
				slot->state = SLOT_ANSWERED;
				todo = TODO_ANSWERED;
			}
		} else if (seg->take) {
			slot->state = SLOT_RETIRED; /* took it into account, but the books refused it */
			todo = TODO_ATTENTION;
		} else if (action == RX_PASS && (seg->len || fin || (seg->flags & TH_RST))) {
			if (slot->state == SLOT_RETIRED || (seg->len && slot->state == SLOT_IDLE) || fin ||
			    (seg->flags & TH_RST))
				todo |= slot_ending(slot);
		}
		handed = action == RX_PASS && seg->len && slot->state == SLOT_PASSING;
		message_copy(&m, c, slot);
		if (action == RX_ACK || action == RX_CHALLENGE || (todo & TODO_POD_ACK)) {
			conn_bare(c, &stamp, now / 1000000);
			frame_fill(&s->frame, c, &stamp, TH_ACK, 0);
		}
	}
	bpf_spin_unlock(&c->lock);

	if (moved) {
		count(HOOK_TC_POD_IN, REASON_RACE);
		return TC_DROP;
	}
	if (todo & TODO_ATTENTION)
		event_simple(EVENT_SLOT, index, m.slot_gen);
	if (todo & TODO_ANSWERED)
		return answer_device(skb, s, c, slot, index, &m, true, now);
	if (todo & TODO_DEVICE_ACK && action == RX_ABSORB)
		return answer_device(skb, s, c, slot, index, &m, false, now);
	switch (action) {
	case RX_TAKE:
	case RX_ACK:
	case RX_CHALLENGE:
		count(HOOK_TC_POD_IN, action == RX_TAKE ? REASON_ANSWER_PART :
				      action == RX_ACK	? REASON_OLD_DUPLICATE :
							  REASON_CHALLENGE);
		verdict = skb_send_small(skb, &s->frame, s->rx.graft.bytes);
		return verdict < 0 ? TC_DROP : verdict;
	case RX_PASS:
		if (s->rx.len < seg->len && skb_cut(skb, s, s->rx.len))
			return TC_DROP;
		count(HOOK_TC_POD_IN, handed ? REASON_ANSWER_HANDED : REASON_TRANSLATED);
		return skb_translate(skb, &s->packet, s->rx.seq, s->rx.ack, s->rx.wnd) ? TC_DROP : TC_PASS;
	case RX_PASS_RAW:
		return TC_PASS;
	case RX_ABSORB:
		count(HOOK_TC_POD_IN, REASON_ACK_ABSORBED);
		return TC_DROP;
	default:
		count(HOOK_TC_POD_IN, REASON_CHALLENGE);
		return TC_DROP;
	}
}
