/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * take.h - PUBLISH to request: eligibility, route, slot, ledger. The same for
 * XDP and TC; only reading the packet and sending the result differ.
 */
#ifndef EPROXY_TAKE_H
#define EPROXY_TAKE_H

#include "flow.h"
#include "request.h"
#include "route.h"
#include "parking.h"
#include "slot.h"
#include "trace.h"

static __always_inline int packet_load(void *ctx, bool xdp, __u32 off, void *to, __u32 len)
{
	if (xdp)
		return bpf_xdp_load_bytes(ctx, off, to, len);
	return bpf_skb_load_bytes(ctx, off, to, len);
}

/* The first len bytes of the next message, or more, into s->look. Returns 0 or less. */
static __always_inline int message_look(void *ctx, bool xdp, struct scratch *s, __u32 len)
{
	struct kept *k;

	if (xdp || !afresh(s->kept))
		return packet_load(ctx, xdp, s->packet.payload, s->look, len);
	k = kept_entry(s->conn);
	if (!k)
		return -1;
	copy_lines(s->look, k->bytes, &k->whole, MQTT_LOOK);
	return 0;
}

/*
 * The payload of the message whose head is in s->publish, of len bytes, into the request, from the offset
 * `at` below REQUEST_HEAD on. Returns 0 or less.
 */
static __always_inline int message_payload(void *ctx, bool xdp, struct scratch *s, struct request *r, __u32 at,
					   __u32 len)
{
	struct kept *k;

	if (xdp || !afresh(s->kept))
		return packet_load(ctx, xdp, s->packet.payload + s->publish.payload, r->buf + at, len);
	k = kept_entry(s->conn);
	if (!k)
		return -1;
	s->payload_len = len;
	copy_lines(r->buf + at, k->bytes + (s->publish.payload & (MQTT_LOOK - 1)), &s->payload_len, PAYLOAD_MAX);
	return 0;
}

/* Unfolded sum of len bytes; the buffer has room to be padded to four. */
static __always_inline __u32 buffer_sum(__u8 *buf, __u32 len, __u32 sum)
{
	__u32 at = 0;

	/* bpf_csum_diff of older kernels takes 512 bytes at a time */
	for (int i = 0; i < REQUEST_MAX / 512; i++) {
		__u32 n;

		if (len <= at)
			break;
		n = len - at;
		if (n >= 512) {
			sum = bpf_csum_diff(NULL, 0, (__be32 *)(buf + at), 512, sum);
		} else {
			n = (n + 3) & 0x3fc;
			if (n <= 512)
				sum = bpf_csum_diff(NULL, 0, (__be32 *)(buf + at), n, sum);
			break;
		}
		at += 512;
	}
	return sum;
}

/* What is to be taken: the message at the front of a packet. */
struct take {
	struct packet *p;
	struct conn *c;
	struct device *d;
	__u32 conn;
	__u32 head_max; /* XDP: bytes by which the packet may grow */
	__u32 pad;
};

static __always_inline bool topic_cached(const struct scratch *s, const struct device *d)
{
	__u32 len = s->publish.topic_len;
	__u64 a, tail;

	if (d->cache_topic_len != len)
		return false;
	for (__u32 i = 0; i < CACHE_TOPIC; i += 8) {
		if (i >= afresh(s->publish.topic_len))
			break;
		a = *(const __u64 *)(s->look + ((s->publish.topic + i) & (MQTT_LOOK - 1)));
		a ^= *(const __u64 *)(d->cache_topic + i);
		tail = afresh(s->publish.topic_len) - i;
		if (tail < 8)
			a <<= 64 - tail * 8;
		if (a)
			return false;
	}
	return true;
}

/*
 * Keeps the route just found for the next message of the same topic, unless the client's
 * rights have changed meanwhile. Returns false if they have, or the connection is another's.
 */
static __always_inline bool cache_fill(struct conn *c, struct device *d, struct scratch *s, __u32 gen, __u32 epoch)
{
	bool ok = false;

	bpf_spin_lock(&c->lock);
	if (c->gen == gen && c->state == CONN_OPEN && d->rights == s->rights) {
		if (s->publish.topic_len <= CACHE_TOPIC) {
			d->cache_epoch = epoch;
			d->cache_counter = s->counter;
			d->cache_function = s->function;
			d->cache_topic_len = s->publish.topic_len;
			d->cache_plain = s->plain;
			for (__u32 i = 0; i < CACHE_TOPIC; i += 8) {
				if (i >= afresh(s->publish.topic_len))
					break;
				*(__u64 *)(d->cache_topic + i) =
					*(const __u64 *)(s->look + ((s->publish.topic + i) & (MQTT_LOOK - 1)));
			}
			/* Last: who reads meanwhile, without the lock, has the version of before. */
			asm volatile("" : : : "memory");
			d->cache_version++;
		}
		s->cache_version = d->cache_version;
		ok = true;
	}
	bpf_spin_unlock(&c->lock);
	return ok;
}

/* What one more message has in front of it. Under the slot's lock. */
static __always_inline enum company slot_company(const struct pod *pod, __u32 index, const struct slot *slot)
{
	__u32 n = slot_in_flight(slot), company = n ? COMPANY_SOME : COMPANY_NONE;

	if (n && *(volatile __u64 *)&pod->trial & slot_bit(pod, index) && n >= *(volatile __u32 *)&pod->proven)
		company = COMPANY_TRIAL;
	opaque(company); /* the verifier need not follow each case */
	return company;
}

/*
 * Where the message at s->publish goes: as the connection's entry remembers it for this
 * topic, or looked up. s->cache_version is then what must still be so when it is taken.
 */
static __always_inline enum reason take_route(struct take *t, struct scratch *s, __u32 epoch)
{
	struct device *d = t->d;
	enum reason reason;

	if (d->cache_epoch == epoch && topic_cached(s, d)) {
		s->counter = d->cache_counter;
		s->function = d->cache_function;
		s->plain = d->cache_plain;
		s->subject_len = s->publish.topic_len;
		if (!afresh(s->plain))
			subject_encode(s);
		return REASON_TAKEN;
	}
	reason = route_find(s, d, t->conn);
	if (reason)
		return reason;
	return cache_fill(t->c, d, s, s->device_gen, epoch) ? REASON_TAKEN : REASON_RACE;
}

/*
 * Slot side of a take: the request becomes an insertion in the pod's stream.
 * gen and number are what the claim found. A pod that is asleep is woken.
 */
static __always_inline enum reason slot_begin(enum hook hook, struct conn *sc, struct slot *slot, struct pod *pod,
					      struct scratch *s, __u32 gen, __u64 now_ns)
{
	__u32 mss = slot_mss(pod, sc, now_ns / 1000000);
	enum reason reason = REASON_TAKEN;
	struct stamp stamp;
	struct message *m;

	bpf_spin_lock(&sc->lock);
	/* only an idle slot: of one that is taken over userspace still reads the request */
	if (sc->gen == gen && slot->state == SLOT_IDLE && (__s32)(s->number - slot->tail) >= 0)
		slot->head = slot->tail = slot->acked = s->number;
	if (sc->gen != gen || sc->state != CONN_OPEN) {
		reason = REASON_DEAD_SOCKET;
	} else if (slot->tail != s->number ||
		   (slot->state != SLOT_IDLE &&
		    !(slot_takes(pod, s->slot, slot) & (s->publish.qos ? TAKES_ROOM | TAKES_DEEPER : TAKES_ROOM)))) {
		reason = REASON_RACE;
		slot_show(pod, s->slot, slot); /* the pod's depth may be another one since */
	} else if (s->request_len > mss) {
		reason = REASON_TOO_LARGE;
	} else if (!conn_can_insert(sc, s->request_len)) {
		reason = REASON_POD_WINDOW;
	} else {
		conn_stamp(sc, &stamp);
		conn_insert(sc, s->request_len, now_ns / 1000000);
		sc->last_ms = now_ns / 1000000;
		m = slot_message(slot, slot->tail);
		m->taken_ns = now_ns;
		m->device = s->device;
		m->device_gen = s->device_gen;
		m->device_seq = s->device_seq;
		m->counter = s->counter;
		m->request_seq = stamp.seq;
		m->request_len = s->request_len;
		m->packet_id = s->publish.packet_id;
		m->qos = s->publish.qos;
		m->acked = 0;
		m->again = 0;
		m->early = 0;
		m->sent_ms = now_ns / 1000000;
		m->hold = HOLD_NONE; /* until the device's ledger has it */
		m->company = slot_company(pod, s->slot, slot);
		m->waited_us = 0;
		slot->tail++;
		if (m->company == COMPANY_TRIAL)
			slot->trial = slot->tail;
		if (!m->qos)
			slot->plain = slot->tail;
		if (slot->state == SLOT_IDLE)
			slot->state = SLOT_BUSY;
		slot_show(pod, s->slot, slot);
		frame_fill(&s->frame, sc, &stamp, TH_ACK | TH_PSH, s->request_len);
		s->slot_gen = gen;
		s->slot_seq = stamp.seq;
		s->slot_mss = mss;
		s->far = recovery_far(sc);
	}
	bpf_spin_unlock(&sc->lock);
	if (!reason)
		pod_rouse(hook, pod);
	return reason;
}

/* Takes slot_begin back: nothing was sent. Where that is impossible, the slot is retired. */
static __always_inline void slot_undo(struct conn *sc, struct slot *slot, struct pod *pod, __u32 index, __u32 gen,
				      __u32 number, enum hook hook)
{
	struct message *m = slot_message(slot, number);
	bool retired = false;

	bpf_spin_lock(&sc->lock);
	if (sc->gen == gen && slot->tail == number + 1 && slot->head != slot->tail) {
		retired = !conn_uninsert(sc, m->request_seq, m->request_len);
		slot->tail--;
		if (retired)
			slot->state = SLOT_RETIRED;
		else if (slot->state == SLOT_BUSY && slot->head == slot->tail)
			slot->state = SLOT_IDLE;
		slot_show(pod, index, slot);
	}
	bpf_spin_unlock(&sc->lock);
	if (retired)
		event_simple(hook, EVENT_SLOT, index, gen);
}

/* The slot's socket is gone: userspace replaces it. */
static __always_inline void slot_retire(struct conn *sc, struct slot *slot, struct pod *pod, __u32 index, __u32 gen,
					enum hook hook)
{
	bpf_spin_lock(&sc->lock);
	if (sc->gen == gen) {
		slot->state = SLOT_RETIRED;
		slot_show(pod, index, slot);
	}
	bpf_spin_unlock(&sc->lock);
	attend(sc, index);
	event_simple(hook, EVENT_SLOT, index, gen);
}

/* Whether the segment's TCP checksum is right. The claimed request buffer is the work space. */
static __always_inline bool segment_ok(void *ctx, bool xdp, const struct packet *p, const struct conn *c,
				       struct request *r)
{
	__u32 len = sizeof(struct tcphdr) + p->seg.len;
	__u32 sum = c->pseudo_sum + bpf_htons(len);

	if (!within(len, sizeof(struct tcphdr), REQUEST_MAX - 8))
		return false;
	if (packet_load(ctx, xdp, p->l4, r->buf, len))
		return false;
	*(__u64 *)(r->buf + len) = 0;
	sum = (sum & 0xffff) + (sum >> 16);
	return csum_fold(buffer_sum(r->buf, len, sum)) == 0;
}

/*
 * XDP redirects to a veth end in a ring of 256 frames; what does not fit is
 * lost, and comes again only after the device's retransmission timeout. So
 * many messages of one client may be under way that way.
 */
#define XDP_OPEN_MAX 4

/*
 * Most grafts of a client that may be open. What is parked is done: there are never more grafts than
 * twice as many and one, so that there is always room for one that is done.
 */
#define OPEN_MAX (TURNS_MAX / 2 - 2)

/* Whether the device has all messages in flight that it may have, or no graft is free. */
static __always_inline bool device_full(const struct conn *c, const struct device *d)
{
	return c->in_flight >= d->inflight_max || ledger_full(&c->rx, LEDGER_RING);
}

/* Tables that are tried for a connection that needs one: with fewer than that taken it finds one in any case. */
#define TABLE_TRIES 8

/* A table that is this connection's if it takes it, marked as taken; NULL: there is none left where it may look. */
static __always_inline struct id_table *table_claim(__u32 conn)
{
	struct id_table *found = NULL;

	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < TABLE_TRIES; i++)
	{
		__u32 number = ((conn + i) & (IDS_TABLES - 1)) + 1;
		struct id_table *t = bpf_map_lookup_elem(&id_tables, &number);

		if (t && !*(volatile __u32 *)&t->taken && !__sync_fetch_and_or(&t->taken, 1)) {
			t->number = number;
			found = t;
			break;
		}
	}
	return found;
}

/*
 * Whether one more QoS 1 message of the connection, with this packet identifier, can be entered; gets the connection
 * a table if that is what it needs. The take finds out under the lock whether it is still so. A function of
 * its own, so that the verifier follows it once.
 */
__attribute__((noinline)) int device_id_room(__u32 conn, __u32 gen, __u32 id)
{
	struct device *d = device_entry(conn);
	struct conn *c = conn_entry(conn);
	struct id_table *t;
	bool got = false;

	if (!d || !c)
		return 0;
	if (ids_room(&d->ids, device_table(d), id))
		return 1;
	if (d->ids.outside || d->ids.table)
		return 0;
	t = table_claim(conn);
	if (!t)
		return 0;
	bpf_spin_lock(&c->lock);
	if (c->gen == gen)
		got = ids_take_table(&d->ids, t);
	bpf_spin_unlock(&c->lock);
	if (!got)
		__sync_fetch_and_and(&t->taken, 0);
	return got;
}

/* Whether messages of the function wait already, or so many of this device are open: one more waits, too. */
static __always_inline bool park_first(const struct conn *c, const struct function *fn)
{
	struct queue *q = queue_entry(fn->queue);

	return *(volatile __u16 *)&c->rx.open >= OPEN_MAX || (q && *(volatile __u32 *)&q->count);
}

/*
 * While an older message is open none behind it settles; neighbours that are
 * done can share one graft. Returns whether there is room now.
 */
static __always_inline bool device_make_room(struct conn *c, const struct device *d)
{
	bool room;

	bpf_spin_lock(&c->lock);
	ledger_compact(&c->rx);
	room = !device_full(c, d);
	bpf_spin_unlock(&c->lock);
	return room;
}

/*
 * Writes the request of the message whose head is in s->publish to r, which is that of the parked message
 * with this number, or, if it is PARK_NONE, that of the claimed slot; its ce-id is made of id_prefix and id.
 */
static __always_inline enum reason take_request(void *ctx, bool xdp, struct scratch *s, struct request *r, __u32 parked,
						const __u8 id_prefix[16], __u32 id)
{
	__u32 head_len = s->head_len, payload_len = s->publish.length - s->publish.payload, at;

	opaque(head_len);
	if (head_len > HEAD_MAX)
		return REASON_SLOT_WRITE;
	request_head(xdp ? HOOK_XDP_DEVICE : HOOK_TC_DEVICE_IN, parked);
	at = request_tail(r, id_prefix, id, head_len, &s->publish, payload_len);
	opaque(at);
	if (payload_len) {
		if (at >= REQUEST_HEAD || !within(payload_len, 1, PAYLOAD_MAX) ||
		    message_payload(ctx, xdp, s, r, at, payload_len))
			return REASON_SLOT_WRITE;
	}
	at = (at + payload_len) & 4095;
	if (at <= REQUEST_MAX - 8)
		*(__u64 *)(r->buf + at) = 0; /* checksums are made of whole words */
	return REASON_TAKEN;
}

/*
 * The ledger of the device: its message of len bytes is removed from its stream, unless something
 * has changed meanwhile. Under the lock of c; ids is the device's table from before. Returns the graft, which is open, or NULL; *hold is
 * the message's on its packet identifier.
 */
static __always_inline struct graft *take_account(struct conn *c, struct device *d, struct id_table *ids,
						  struct scratch *s, __u32 len, __u64 now, __u32 *hold)
{
	const struct packet *p = &s->packet;
	struct segment one = p->seg;
	struct graft *graft;
	bool taken;

	one.len = len;
	taken = c->gen == s->device_gen && c->state == CONN_OPEN && c->tuple.remote_port == p->tuple.remote_port &&
		c->tuple.remote[3] == p->tuple.remote[3] && d->cache_version == s->cache_version &&
		!device_full(c, d) && (!s->publish.qos || ids_room(&d->ids, ids, s->publish.packet_id)) &&
		framing_at_boundary(&d->framing) && !(c->flags & (CONN_LOST | CONN_NO_TAKE | CONN_BROKEN)) &&
		conn_take(c, &one, &s->rx, now / 1000000);
	if (!taken)
		return NULL;
	graft = ledger_at(&c->rx, (__u32)c->rx.count - 1);
	if (s->publish.qos)
		*hold = ids_hold(&d->ids, ids, s->publish.packet_id);
	c->in_flight++;
	d->last_take_ns = now;
	d->taken++;
	return graft;
}

/*
 * The request of the message whose head is in s->publish, made in the buffer of
 * the claimed slot s->slot, and its ledger on both sides.
 */
static __always_inline enum reason take_into(void *ctx, bool xdp, struct take *t, struct scratch *s, struct pod *pod,
					     __u32 len)
{
	struct slot *slot = slot_entry(s->slot);
	struct conn *c = t->c, *sc = conn_entry(s->slot);
	enum hook hook = xdp ? HOOK_XDP_DEVICE : HOOK_TC_DEVICE_IN;
	__u32 gen, hold = HOLD_NONE;
	struct device *d = t->d;
	struct id_table *ids;
	enum reason reason;
	struct graft *graft;
	struct request *r;
	bool taken, far;
	__u64 now;

	if (!slot || !sc)
		return REASON_DEAD_SOCKET;
	gen = *(volatile __u32 *)&sc->gen;
	s->number = slot_next(slot);
	r = request_buffer(s->slot, s->number);
	if (!r)
		return REASON_DEAD_SOCKET;
	if (!slot_alive(s->slot)) {
		slot_retire(sc, slot, pod, s->slot, gen, hook);
		return REASON_DEAD_SOCKET;
	}
	if (xdp && !segment_ok(ctx, xdp, t->p, c, r))
		return REASON_BAD_CHECKSUM;
	slot->count++;
	reason = take_request(ctx, xdp, s, r, PARK_NONE, slot->id_prefix, slot->count);
	if (reason)
		return reason;

	now = bpf_ktime_get_ns();
	reason = slot_begin(hook, sc, slot, pod, s, gen, now);
	if (reason)
		return reason;
	attend(sc, s->slot);

	ids = device_table(d);
	far = !xdp && afresh(s->far); /* XDP can send the device no acknowledgement beside the request */
	bpf_spin_lock(&c->lock);
	graft = take_account(c, d, ids, s, len, now, &hold);
	taken = graft != NULL;
	if (graft) {
		if (far)
			ledger_removed(&c->rx);
		else
			graft->who = s->slot;
		d->last_slot = s->slot;
	}
	bpf_spin_unlock(&c->lock);
	if (!taken) {
		slot_undo(sc, slot, pod, s->slot, gen, s->number, hook);
		return REASON_RACE;
	}
	/* nobody looks at it before: the request has not left, and the slot is still claimed */
	slot_message(slot, s->number)->hold = hold;
	slot_message(slot, s->number)->early = far;
	return REASON_TAKEN;
}

/*
 * Tries to take the first PUBLISH in this packet. On REASON_TAKEN the request is in
 * the buffer of s->slot, its frame's headers are in s->frame, the ledger of both
 * connections have it, and the caller must send it. On REASON_NO_SLOT it may be parked (park.h).
 */
static __always_inline enum reason take_publish(void *ctx, bool xdp, struct take *t, struct scratch *s)
{
	struct packet *p = t->p;
	struct conn *c = t->c;
	struct device *d = t->d;
	__u32 len = p->seg.len, look, payload_len, gen = c->gen;
	enum hook hook = xdp ? HOOK_XDP_DEVICE : HOOK_TC_DEVICE_IN;
	struct globals *g = globals_get();
	enum reason reason;
	struct function *fn;
	struct pod *pod;
	__u32 epoch;

	if (!g || g->draining || c->state != CONN_OPEN || (c->flags & (CONN_BROKEN | CONN_NO_TAKE)))
		return REASON_NOT_OPEN;
	if (!p->plain || (p->seg.flags & (TH_SYN | TH_FIN | TH_RST | TH_URG)))
		return REASON_TCP_FLAGS;
	if (!conn_next(c, p->seg.seq))
		return REASON_NOT_NEXT;
	if (c->flags & CONN_LOST)
		return REASON_LOST_TRACK;
	if (!framing_at_boundary(&d->framing))
		return REASON_NO_BOUNDARY;
	if (device_full(c, d) && (c->in_flight >= d->inflight_max || !device_make_room(c, d)))
		return REASON_RING_FULL;
	if (xdp && c->tx_kuna != c->tx_knxt)
		return REASON_ACK_NEWS;
	if (xdp && c->in_flight >= XDP_OPEN_MAX)
		return REASON_XDP_QUEUE;

	look = len < MQTT_LOOK ? len : MQTT_LOOK;
	s->publish.length = 0;
	if (!within(look, 2, MQTT_LOOK))
		return REASON_PARTIAL;
	if (message_look(ctx, xdp, s, look))
		return REASON_LOAD_ERROR;
	reason = mqtt_publish(s->look, len, d->version, &s->publish);
	if (reason)
		return reason;
	if (s->publish.length < len) {
		if (xdp)
			return REASON_MULTI;
		len = s->publish.length;
	}
	payload_len = s->publish.length - s->publish.payload;
	if (payload_len > PAYLOAD_MAX)
		return REASON_TOO_LARGE;
	if (s->publish.qos && !device_id_room(t->conn, gen, s->publish.packet_id))
		return REASON_RING_FULL;

	/* The head: from the connection's cache, or made now. */
	s->device = t->conn;
	s->device_gen = gen;
	s->device_seq = p->seg.seq;
	s->cache_version = *(volatile __u32 *)&d->cache_version;
	s->rights = *(volatile __u32 *)&d->rights;
	/* Read before the roots, which a reload switches first: a head of the old routes is never kept under the new epoch. */
	epoch = *(volatile __u32 *)&g->epoch;
	reason = take_route(t, s, epoch);
	if (reason)
		return reason;
	fn = bpf_map_lookup_elem(&functions, &s->function);
	if (!fn)
		return REASON_NO_SLOT;
	s->head_len = request_head_len(fn, d, s);
	if (s->head_len > HEAD_MAX)
		return REASON_TOO_LARGE;
	s->request_len = s->head_len + request_tail_len(&s->publish, payload_len) + payload_len;
	if (xdp && s->request_len > p->seg.len + t->head_max)
		return REASON_HEADROOM;
	if (park_first(c, fn))
		return REASON_NO_SLOT;
	s->slot = NO_INDEX;
	pod = slot_follow(c, d, s->function, s->publish.qos, &s->slot);
	if (!pod)
		pod = pod_choose(hook, fn);
	if (!pod)
		return REASON_NO_SLOT;
	if (pod->ipv6 != p->ipv6 || (xdp && !pod->xdp_ok)) {
		if (s->slot != NO_INDEX)
			slot_release(pod, s->slot);
		return pod->ipv6 != p->ipv6 ? REASON_FAMILY : REASON_NO_XDP_TARGET;
	}
	if (s->slot == NO_INDEX)
		s->slot = slot_claim(hook, pod, t->conn, s->publish.qos, 0);
	if (s->slot == NO_INDEX) {
		pod->denied_ms = bpf_ktime_get_ns() / 1000000;
		pod_wake(hook, pod); /* for who found the place that was only tried for */
		return REASON_NO_SLOT;
	}
	reason = take_into(ctx, xdp, t, s, pod, len);
	slot_release(pod, s->slot);
	pod_wake(hook, pod);
	s->queue = fn->queue;
	s->vain = reason != REASON_TAKEN;
	return reason;
}

/*
 * take_publish, with its result read back from memory: the verifier then knows
 * nothing of it, and follows what comes behind once instead of once per reason.
 */
static __always_inline enum reason take_try(void *ctx, bool xdp, struct take *t, struct scratch *s)
{
	s->bad = take_publish(ctx, xdp, t, s);
	return afresh(s->bad);
}

/* After copying the request that was just taken: whether these are its bytes. */
static __always_inline bool taken_live(const struct scratch *s)
{
	struct slot *slot = slot_entry(s->slot);
	struct conn *sc = conn_entry(s->slot);

	return slot && sc && request_live(sc, slot, s->slot_gen, s->number);
}

/* Counts a message that was taken, for this reason: it has a slot, or is parked. */
static __always_inline void count_taken(const struct scratch *s, enum hook hook, enum reason reason)
{
	struct route_stats *st = route_stats_entry(s->counter);

	count(hook, reason);
	if (st)
		st->taken[s->publish.qos & 1]++;
	if (tracing())
		trace_taken(hook, reason);
}

#endif
