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

/* Has the bytes of the packet from `at` on in w->look, if there are more than are in there. Returns false if they cannot be had. */
static __always_inline bool scan_look(struct scan *x, __u32 at, __u32 n)
{
	__u32 want = n < OBSERVE_LOOK ? n : OBSERVE_LOOK;

	if (at + LINE_LOOK <= x->until || x->until >= x->end)
		return true;
	if (!within(want, 1, OBSERVE_LOOK) || bpf_skb_load_bytes(x->skb, at, x->w->look, want))
		return false;
	x->from = at;
	x->until = at + want;
	return true;
}

/* One step of a packet's scan. Returns 1 if it was the last one. */
static __always_inline long scan_step(struct scan *x, enum towards direction)
{
	struct observe_conn *c = x->c;
	struct stream *s = direction == FROM_POD ? &c->response : &c->request;
	__u32 at = x->at, n = x->end - at, used = 0, off;
	enum stream_event event;

	if (at >= x->end || (c->word & CONN_LOST))
		return 1;
	if (s->body) {
		event = stream_skip(s, n, &used);
	} else {
		if (!scan_look(x, at, n))
			return 1;
		off = at - x->from;
		if (off >= OBSERVE_LOOK)
			return 1;
		event = stream_line(s, x->w->look + off, n, direction == FROM_POD, x->now_ns, &used);
		if (s->mark != MARK_NONE) {
			if (direction == TOWARDS_POD)
				exchange_marked(c, x->o, s->mark);
			s->mark = MARK_NONE;
		}
	}
	x->at = at + used;
	if (event == STREAM_NOTHING)
		return 0;
	return direction == FROM_POD ? scan_response(x, event) : scan_request(x, event);
}

static long scan_step_request(__u64 index, void *data)
{
	return scan_step(data, TOWARDS_POD);
}

static long scan_step_response(__u64 index, void *data)
{
	return scan_step(data, FROM_POD);
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

/* Whether any pod that is observed has the port. */
static __always_inline bool port_observed(__be16 port)
{
	return observed_ports[port / 64] & 1ull << port % 64;
}

/* The pod whose packet it is. Returns NULL if it is of none that is observed. */
static __always_inline __u32 *pod_of(struct packet *p)
{
	struct observe_pod at = {};

	memcpy(at.address, p->tuple.remote, sizeof(at.address));
	at.port = p->tuple.remote_port;
	return bpf_map_lookup_elem(&observed_pods, &at);
}

/* A connection that was open before, or that the programs put requests into. Returns false if it is not to be followed from here. */
static __always_inline bool conn_join(struct observe_conn *c, struct packet *p, enum towards direction)
{
	if (!p->seg.len)
		return false;
	c->slot = slot_of((struct observe_key *)&p->tuple);
	if (c->slot == NO_INDEX && direction == FROM_POD)
		return false;
	c->joined = 1;
	c->request.next = direction == FROM_POD ? p->seg.ack : p->seg.seq;
	c->response.next = direction == FROM_POD ? p->seg.seq : p->seg.ack;
	c->request.begun = 1;
	c->response.begun = 1;
	return true;
}

/*
 * Begins to follow a connection: at its SYN, at a request when it was open
 * before, and at any byte of a pod on a connection that the programs put
 * requests into. Returns NULL for what is none of these.
 */
static __always_inline struct observe_conn *conn_begin(struct packet *p, enum towards direction)
{
	__u32 key = direction, syn = p->seg.flags & TH_SYN, *pod;
	struct observe_scratch *w;
	struct observe_counts *o;

	if ((p->seg.flags & TH_RST) || (syn ? direction == FROM_POD : !p->seg.len))
		return NULL;
	pod = pod_of(p);
	w = bpf_map_lookup_elem(&observe_scratches, &key);
	if (!pod || !w)
		return NULL;
	memset(&w->fresh, 0, sizeof(w->fresh));
	w->fresh.pod = *pod;
	w->fresh.slot = NO_INDEX;
	if (!syn && !conn_join(&w->fresh, p, direction))
		return NULL;
	if (bpf_map_update_elem(&observed_conns, &p->tuple, &w->fresh, BPF_NOEXIST)) {
		o = bpf_map_lookup_elem(&observed, pod);
		if (o)
			o->unfollowed[WHY_FULL]++;
		return NULL;
	}
	return bpf_map_lookup_elem(&observed_conns, &p->tuple);
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
static __always_inline void conn_scan(struct __sk_buff *skb, struct observe_conn *c, struct observe_counts *o,
				      struct packet *p, enum towards direction, __u64 now_ns)
{
	struct stream *s = direction == FROM_POD ? &c->response : &c->request;
	__u32 front, key = direction;
	struct scan x = {
		.skb = skb,
		.w = bpf_map_lookup_elem(&observe_scratches, &key),
		.c = c,
		.o = o,
		.now_ns = now_ns,
	};

	if (!x.w)
		return;
	if (!stream_place(s, p->seg.seq, p->seg.len, &front)) {
		conn_lose(c, o, WHY_GAP, now_ns);
		return;
	}
	x.at = p->payload + front;
	x.end = p->payload + p->seg.len;
	x.until = 0;
	if (direction == FROM_POD)
		bpf_loop(OBSERVE_STEPS, scan_step_response, &x, 0);
	else
		bpf_loop(OBSERVE_STEPS, scan_step_request, &x, 0);
	if (x.at < x.end && !(c->word & CONN_LOST))
		conn_lose(c, o, WHY_STEPS, now_ns);
}

/* A segment of a connection. */
static __always_inline void conn_segment(struct __sk_buff *skb, struct observe_conn *c, struct observe_counts *o,
					 struct packet *p, enum towards direction, __u64 now_ns)
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
			conn_scan(skb, c, o, p, direction, now_ns);
	}
	if (p->seg.len && (c->slot == NO_INDEX || direction == FROM_POD)) /* without bytes it may lie anywhere */
		bytes_beyond(s, p->seg.seq + p->seg.len);
	*bytes += s->next - before;
	if (c->slot != NO_INDEX && direction == FROM_POD && (p->seg.flags & TH_ACK) && c->request.begun)
		o->request_bytes += bytes_beyond(&c->request, p->seg.ack);
}

/* A client's SYN, with another number than the one that the connection had, uses its 4-tuple again. */
static __always_inline bool conn_replaced(struct observe_conn *c, struct packet *p)
{
	return (p->seg.flags & (TH_SYN | TH_ACK)) == TH_SYN && c->request.next != p->seg.seq + 1;
}

/* The connection of a packet, if it is followed. */
static __always_inline struct observe_conn *conn_of(struct packet *p, enum towards direction)
{
	struct observe_conn *c = bpf_map_lookup_elem(&observed_conns, &p->tuple);
	struct observe_counts *o;

	if (c && direction == TOWARDS_POD && conn_replaced(c, p)) {
		o = bpf_map_lookup_elem(&observed, &c->pod);
		if (o)
			conn_over(c, o, bpf_ktime_get_ns());
		bpf_map_delete_elem(&observed_conns, &p->tuple);
		c = NULL;
	}
	return c ? c : conn_begin(p, direction);
}

/* A packet at the interface of a pod. */
static __always_inline int observe(struct __sk_buff *skb, enum towards direction)
{
	struct observe_conn *c;
	struct observe_counts *o;
	struct packet p;
	__u64 now_ns;

	if (packet_parse((void *)(long)skb->data, (void *)(long)skb->data_end, skb->len, direction == FROM_POD, &p) !=
	    PARSE_TCP)
		return OBSERVED;
	if (!port_observed(p.tuple.remote_port))
		return OBSERVED;
	c = conn_of(&p, direction);
	if (!c)
		return OBSERVED;
	o = bpf_map_lookup_elem(&observed, &c->pod);
	if (!o)
		return OBSERVED;
	/* only a head, or the end of a message, needs more than to be known to the next tick of the timer */
	now_ns = p.seg.len || (p.seg.flags & (TH_FIN | TH_RST)) ? bpf_ktime_get_ns() : bpf_ktime_get_coarse_ns();
	c->seen_ns = now_ns;
	if (__sync_lock_test_and_set(&c->busy[direction], 1)) {
		conn_lose(c, o, WHY_GAP,
			  now_ns); /* two packets of one direction at the same time: their order is not known */
		return OBSERVED;
	}
	conn_segment(skb, c, o, &p, direction, now_ns);
	if (conn_ends(c, &p, direction)) {
		conn_last(c, o, &p, now_ns);
		bpf_map_delete_elem(&observed_conns, &p.tuple);
	}
	*(volatile __u32 *)&c->busy[direction] = 0;
	return OBSERVED;
}

#endif
