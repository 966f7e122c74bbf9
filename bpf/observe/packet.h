/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* packet.h - from a packet to its connection, and what its bytes mean there. */
#ifndef EPROXY_OBSERVE_PACKET_H
#define EPROXY_OBSERVE_PACKET_H

#include "../mech/packet.h"
#include "exchange.h"

/* TCX_NEXT of include/uapi/linux/bpf.h: whatever is behind decides. */
#define OBSERVED (-1)

enum towards {
	TOWARDS_POD = 0,
	FROM_POD = 1,
};

/* What the steps of a packet's scan share. */
struct scan {
	struct __sk_buff *skb;
	struct observe_scratch *w;
	struct observe_conn *c;
	struct observe_counts *o;
	__u64 now_ns;
	__u32 at;    /* bytes of the packet that were scanned */
	__u32 end;   /* of the payload */
	__u32 from;  /* what is in w->look */
	__u32 until; /* up to here */
	__u32 ended; /* responses that ended in this packet */
	__u32 from_pod;
};

/* A step of the requests found something. Returns true if no more is to be scanned. */
static __always_inline bool scan_request(struct scan *x, enum stream_event event)
{
	struct observe_conn *c = x->c;

	switch (event) {
	case STREAM_NOTHING:
	case STREAM_ENDED:
		return false;
	case STREAM_BEGUN:
		exchange_asked(c, x->o, x->now_ns);
		return false;
	case STREAM_HTTP2:
		conn_carries(c, x->o, PROTOCOL_HTTP2, x->now_ns);
		return true;
	default:
		break;
	}
	if (c->protocol != PROTOCOL_UNKNOWN)
		conn_lose(c, x->o, WHY_MALFORMED, x->now_ns);
	else if (c->joined)
		conn_lose(c, x->o, WHY_JOINED, x->now_ns);
	else
		conn_carries(c, x->o, event == STREAM_TLS ? PROTOCOL_TLS : PROTOCOL_OTHER, x->now_ns);
	return true;
}

/* A step of the responses found something. Returns true if no more is to be scanned. */
static __always_inline bool scan_response(struct scan *x, enum stream_event event)
{
	struct observe_conn *c = x->c;

	switch (event) {
	case STREAM_NOTHING:
		return false;
	case STREAM_BEGUN:
		exchange_begun(c, x->o, x->ended, x->now_ns);
		return false;
	case STREAM_INFORMED:
		x->o->responses[1]++;
		return false;
	case STREAM_ENDED:
		if (c->slot != NO_INDEX)
			slot_answered(c, x->o, x->now_ns);
		else
			exchange_answered(c, x->o, true, x->now_ns);
		x->ended++;
		return false;
	case STREAM_SWITCHED:
		exchange_answered(c, x->o, false, x->now_ns);
		conn_carries(c, x->o, PROTOCOL_UPGRADED, x->now_ns);
		return true;
	default:
		conn_lose(c, x->o, WHY_MALFORMED, x->now_ns);
		return true;
	}
}

/* One step of a packet's scan. Returns 1 if it was the last one. */
static long scan_step(__u64 index, void *data)
{
	struct scan *x = data;
	struct observe_conn *c = x->c;
	struct stream *s = x->from_pod ? &c->response : &c->request;
	__u32 at = x->at, n = x->end - at, used = 0, off;
	enum stream_event event;

	if (at >= x->end || (c->word & CONN_LOST))
		return 1;
	if (s->body) {
		event = stream_skip(s, n, &used);
	} else {
		if (at + 32 > x->until && x->until < x->end) {
			__u32 want = n < OBSERVE_LOOK ? n : OBSERVE_LOOK;

			if (!within(want, 1, OBSERVE_LOOK) || bpf_skb_load_bytes(x->skb, at, x->w->look, want))
				return 1;
			x->from = at;
			x->until = at + want;
		}
		off = at - x->from;
		if (off >= OBSERVE_LOOK)
			return 1;
		event = stream_line(s, x->w->look + off, n, x->from_pod, x->now_ns, &used);
		if (s->mark != MARK_NONE) {
			if (!x->from_pod)
				exchange_marked(c, s->mark, x->now_ns);
			s->mark = MARK_NONE;
		}
	}
	x->at = at + used;
	return x->from_pod ? scan_response(x, event) : scan_request(x, event);
}

/* Looks the tuple up among the slots. */
static __always_inline __u32 slot_of(struct observe_key *key)
{
	struct tuple t;
	__u32 *index;

	memcpy(&t, key, sizeof(t));
	index = bpf_map_lookup_elem(&flows, &t);
	return index && *index < knob_slots ? *index : NO_INDEX;
}

/*
 * Begins to follow a connection: at its SYN, at a request when it was open
 * before, and at any byte of a pod on a connection that the programs put
 * requests into. Returns NULL for what is none of these.
 */
static __always_inline struct observe_conn *conn_begin(struct observe_scratch *w, struct packet *p,
						       struct observe_key *key, __u32 pod, enum towards direction)
{
	struct observe_conn *c = &w->fresh;
	__u32 slot = NO_INDEX;
	struct observe_counts *o;

	memset(c, 0, sizeof(*c));
	c->pod = pod;
	c->slot = NO_INDEX;
	if (!(p->seg.flags & TH_SYN)) {
		if (!p->seg.len)
			return NULL;
		slot = slot_of(key);
		if (slot == NO_INDEX && direction == FROM_POD)
			return NULL;
		c->slot = slot;
		c->joined = 1;
		c->request.next = direction == FROM_POD ? p->seg.ack : p->seg.seq;
		c->response.next = direction == FROM_POD ? p->seg.seq : p->seg.ack;
		c->request.begun = 1;
		c->response.begun = 1;
	}
	if (bpf_map_update_elem(&observed_conns, key, c, BPF_NOEXIST)) {
		o = bpf_map_lookup_elem(&observed, &pod);
		if (o)
			o->unfollowed[WHY_FULL]++;
		return NULL;
	}
	return bpf_map_lookup_elem(&observed_conns, key);
}

/* A SYN or SYN-ACK says where its direction begins. */
static __always_inline void conn_syn(struct stream *s, __u32 seq)
{
	if (s->begun) /* sent again */
		return;
	s->next = seq + 1;
	s->begun = 1;
}

/* Counts a segment's bytes where nothing is scanned. Returns how many are new. */
static __always_inline __u32 bytes_beyond(struct stream *s, __u32 end)
{
	__s32 n = end - s->next;

	if (n <= 0)
		return 0;
	s->next = end;
	return n;
}

/* The segment ends its direction, or the connection: only at the place where that may be. */
static __always_inline bool conn_ends(struct observe_conn *c, struct packet *p, enum towards direction)
{
	struct stream *s = direction == FROM_POD ? &c->response : &c->request;

	if (p->seg.seq + p->seg.len != s->next)
		return false;
	if (p->seg.flags & TH_RST)
		return true;
	if (!(p->seg.flags & TH_FIN))
		return false;
	c->fin |= 1 << direction;
	return c->fin & 1 << FROM_POD; /* a client that has ended its direction may wait for the response */
}

/* A response without a length ends with its connection, if that ends in order. */
static __always_inline void conn_last(struct observe_conn *c, struct observe_counts *o, struct packet *p, __u64 now_ns)
{
	if (!(p->seg.flags & TH_RST) && c->response.body && c->response.left == STREAM_ENDLESS &&
	    !(c->word & CONN_LOST)) {
		if (c->slot != NO_INDEX)
			slot_answered(c, o, now_ns);
		else
			exchange_answered(c, o, true, now_ns);
	}
	conn_over(c, o, now_ns);
}

/* The payload of a segment on a connection that is followed. */
static __always_inline void conn_scan(struct __sk_buff *skb, struct observe_scratch *w, struct observe_conn *c,
				      struct observe_counts *o, struct packet *p, enum towards direction, __u64 now_ns)
{
	struct stream *s = direction == FROM_POD ? &c->response : &c->request;
	__u32 front;
	struct scan x = {
		.skb = skb,
		.w = w,
		.c = c,
		.o = o,
		.now_ns = now_ns,
		.from_pod = direction == FROM_POD,
	};

	if (!stream_place(s, p->seg.seq, p->seg.len, &front)) {
		conn_lose(c, o, WHY_GAP, now_ns);
		return;
	}
	x.at = p->payload + front;
	x.end = p->payload + p->seg.len;
	x.until = 0;
	bpf_loop(OBSERVE_STEPS, scan_step, &x, 0);
	if (x.at < x.end && !(c->word & CONN_LOST))
		conn_lose(c, o, WHY_STEPS, now_ns);
}

/* A segment of a connection. */
static __always_inline void conn_segment(struct __sk_buff *skb, struct observe_scratch *w, struct observe_conn *c,
					 struct observe_counts *o, struct packet *p, enum towards direction,
					 __u64 now_ns)
{
	struct stream *s = direction == FROM_POD ? &c->response : &c->request;
	__u64 *bytes = direction == FROM_POD ? &o->response_bytes : &o->request_bytes;
	__u32 before;

	if (p->seg.flags & TH_SYN)
		conn_syn(s, p->seg.seq);
	if (!s->begun)
		return;
	before = s->next;
	if (p->seg.len && !(p->seg.flags & TH_SYN) && !(c->word & CONN_LOST)) {
		if (c->slot == NO_INDEX && !c->joined && c->protocol == PROTOCOL_UNKNOWN)
			c->slot = slot_of((struct observe_key *)&p->tuple);
		if (c->slot == NO_INDEX || direction == FROM_POD)
			conn_scan(skb, w, c, o, p, direction, now_ns);
	}
	if (p->seg.len && (c->slot == NO_INDEX || direction == FROM_POD)) /* without bytes it may lie anywhere */
		bytes_beyond(s, p->seg.seq + p->seg.len);
	*bytes += s->next - before;
	if (c->slot != NO_INDEX && direction == FROM_POD && (p->seg.flags & TH_ACK) && c->request.begun)
		o->request_bytes += bytes_beyond(&c->request, p->seg.ack);
}

/* A packet at the interface of a pod. */
static __always_inline int observe(struct __sk_buff *skb, enum towards direction)
{
	__u32 key = direction, *pod;
	struct observe_pod at = {};
	struct observe_scratch *w;
	struct observe_conn *c;
	struct observe_counts *o;
	struct packet p;
	__u64 now_ns;

	if (packet_parse((void *)(long)skb->data, (void *)(long)skb->data_end, skb->len, direction == FROM_POD, &p) !=
	    PARSE_TCP)
		return OBSERVED;
	memcpy(at.address, p.tuple.remote, sizeof(at.address));
	at.port = p.tuple.remote_port;
	pod = bpf_map_lookup_elem(&observed_pods, &at);
	if (!pod)
		return OBSERVED;
	w = bpf_map_lookup_elem(&observe_scratches, &key);
	o = bpf_map_lookup_elem(&observed, pod);
	if (!w || !o)
		return OBSERVED;
	now_ns = bpf_ktime_get_ns();
	c = bpf_map_lookup_elem(&observed_conns, &p.tuple);
	if (c && direction == TOWARDS_POD && (p.seg.flags & (TH_SYN | TH_ACK)) == TH_SYN &&
	    c->request.next != p.seg.seq + 1) { /* the 4-tuple is used again */
		conn_over(c, o, now_ns);
		bpf_map_delete_elem(&observed_conns, &p.tuple);
		c = NULL;
	}
	if (!c) {
		if ((p.seg.flags & TH_RST) || ((p.seg.flags & TH_SYN) && direction == FROM_POD))
			return OBSERVED;
		c = conn_begin(w, &p, (struct observe_key *)&p.tuple, *pod, direction);
		if (!c)
			return OBSERVED;
	}
	c->seen_ns = now_ns;
	if (__sync_lock_test_and_set(&c->busy[direction], 1)) {
		conn_lose(c, o, WHY_GAP,
			  now_ns); /* two packets of one direction at the same time: their order is not known */
		return OBSERVED;
	}
	conn_segment(skb, w, c, o, &p, direction, now_ns);
	if (conn_ends(c, &p, direction)) {
		conn_last(c, o, &p, now_ns);
		bpf_map_delete_elem(&observed_conns, &p.tuple);
	}
	*(volatile __u32 *)&c->busy[direction] = 0;
	return OBSERVED;
}

#endif
