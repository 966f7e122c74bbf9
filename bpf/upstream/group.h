/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * group.h - requests that were taken from one segment and follow each other on
 * one slot leave in one segment: a packet costs more than a message.
 */
#ifndef EPROXY_UPSTREAM_GROUP_H
#define EPROXY_UPSTREAM_GROUP_H

#include "../mech/send.h"
#include "begin.h"

/* Whether the request just taken follows the group's last one and has room in its segment. */
static __always_inline bool group_joins(const struct group *g, const struct scratch *s)
{
	return g->count < GROUP_MAX && g->slot == s->claim.slot && g->slot_gen == s->claim.gen &&
	       g->first + g->count == s->claim.number && g->seq + g->len == s->claim.seq &&
	       g->len + s->draft.len <= g->mss;
}

/* Adds the request just taken: it is the first, or group_joins holds. Its headers are the newest. */
static __always_inline void group_add(struct group *g, const struct scratch *s)
{
	if (!g->count) {
		g->slot = s->claim.slot;
		g->slot_gen = s->claim.gen;
		g->first = s->claim.number;
		g->seq = s->claim.seq;
		g->len = 0;
		g->mss = s->claim.mss;
	}
	g->lens[g->count & (GROUP_MAX - 1)] = s->draft.len;
	g->count++;
	g->len += s->draft.len;
	g->frame = s->frame;
	if (g->count > 1)
		frame_resize(&g->frame, g->seq, g->len);
}

/* The group's requests while they are copied into an skb. */
struct group_copy {
	struct __sk_buff *skb;
	struct group *g;
	__u32 off; /* in the frame */
	__u32 sum; /* of the payload so far */
	bool summing;
};

static long group_copy_one(__u64 index, void *data)
{
	struct group_copy *c = data;
	__u32 n = index, len = c->g->lens[n & (GROUP_MAX - 1)], sum;
	struct request *r = request_buffer(c->g->slot, c->g->first + n);

	if (!r)
		return 1;
	if (c->summing) {
		sum = buffer_sum(r->buf, len, 0);
		sum = (sum & 0xffff) + (sum >> 16);
		if ((c->off - c->g->frame.len) & 1) /* bytes change places in their words */
			sum = ((sum & 0xff) << 8) + (sum >> 8);
		c->sum += sum;
	}
	if (!within(len, 1, REQUEST_MAX - 8) || bpf_skb_store_bytes(c->skb, c->off, r->buf, len, BPF_F_RECOMPUTE_CSUM))
		return 1;
	c->off += len;
	return 0;
}

/*
 * Turns the skb into the group's segment, and makes sure that the bytes are
 * those requests' and nobody else's. Returns 0 or -1.
 */
static __always_inline int group_make(struct __sk_buff *skb, struct group *g)
{
	bool partial = skb_ip_summed(skb) == CHECKSUM_PARTIAL;
	struct group_copy c = { .skb = skb, .g = g, .off = g->frame.len, .summing = !partial };
	struct slot *slot = slot_entry(g->slot);
	struct conn *sc = conn_entry(g->slot);

	if (!slot || !sc || bpf_skb_change_tail(skb, g->frame.len + g->len, 0))
		return -1;
	bpf_loop(g->count, group_copy_one, &c, 0);
	if (c.off != g->frame.len + g->len || skb_send_frame(skb, &g->frame, partial, c.sum))
		return -1;
	return request_live(sc, slot, g->slot_gen, g->first) ? 0 : -1;
}

#endif
