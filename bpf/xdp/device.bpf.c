/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * device.bpf.c - XDP at the node interface, first touch. Takes the two everyday
 * packets, a single PUBLISH and a bare acknowledgement, before the kernel
 * makes an skb of them. Everything else passes unchanged to TC ingress, which
 * knows all cases; and all packets do while no pod could be sent a redirect.
 */
#include "../take/take.h"

/* Sends the request in place of the PUBLISH. */
static __always_inline int xdp_send_request(struct xdp_md *ctx, struct scratch *s)
{
	struct request *r = request_buffer(s->claim.slot, s->claim.number);
	long old_len = bpf_xdp_get_buff_len(ctx);
	__u32 len = s->draft.len;

	if (!r)
		return -1;
	if (!within(len, 1, REQUEST_MAX - 8))
		return -1;
	frame_checksum(&s->frame, false, buffer_sum(r->buf, len, 0));
	if (bpf_xdp_adjust_head(ctx, old_len - (long)(s->frame.len + len)))
		return -1;
	if (s->frame.ipv6) {
		if (bpf_xdp_store_bytes(ctx, 0, &s->frame.eth, FRAME_V6))
			return -1;
		if (bpf_xdp_store_bytes(ctx, FRAME_V6, r->buf, len))
			return -1;
	} else {
		if (bpf_xdp_store_bytes(ctx, 0, &s->frame.eth, FRAME_V4))
			return -1;
		if (bpf_xdp_store_bytes(ctx, FRAME_V4, r->buf, len))
			return -1;
	}
	if (!taken_live(s))
		return -1;
	return bpf_redirect(s->frame.ifindex, 0);
}

/* A bare ACK: true if the local stack need not see it. */
static __always_inline bool xdp_absorb(struct xdp_md *ctx, struct conn *c, struct packet *p, struct scratch *s)
{
	__u32 sum = c->pseudo_sum + bpf_htons(sizeof(struct tcphdr));
	__u8 *tcp = s->look;
	bool absorbed = false;
	__u32 now_ms;

	if (!p->plain || c->state != CONN_OPEN || loss_is_duplicate(c, p->seg.ack, p->seg.wnd))
		return false;
	if (bpf_xdp_load_bytes(ctx, p->l4, tcp, sizeof(struct tcphdr)))
		return false;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)tcp, sizeof(struct tcphdr), sum);
	if (csum_fold(sum))
		return false;
	now_ms = bpf_ktime_get_ns() / 1000000;
	bpf_spin_lock(&c->lock);
	if (c->state == CONN_OPEN && p->tuple.remote_port == c->tuple.remote_port)
		absorbed = conn_absorb(c, &p->seg, &s->rx, now_ms);
	bpf_spin_unlock(&c->lock);
	return absorbed;
}

/* What becomes of a segment of a device's connection: exit_for. */
static __always_inline int xdp_segment(struct xdp_md *ctx, struct scratch *s, struct take *t)
{
	enum reason reason;
	int verdict;

	if (!s->packet.seg.len) {
		if (s->packet.seg.flags != TH_ACK || !xdp_absorb(ctx, t->c, t->p, s))
			return exit_for(REASON_XDP_LEFT, XDP_PASS);
		return exit_for(REASON_ACK_ABSORBED, XDP_DROP);
	}
	t->head_max = knob_headroom;
	reason = take_try(ctx, true, t, s);
	if (reason != REASON_TAKEN)
		return exit_for(reason, XDP_PASS); /* TC has the last word */
	message_taken(s, HOOK_XDP_DEVICE, REASON_TAKEN);
	verdict = xdp_send_request(ctx, s);
	return verdict == XDP_REDIRECT ? exit_counted(verdict) : exit_for(REASON_REDIRECT_ERROR, XDP_DROP);
}

/*
 * XDP program of the node interfaces (struct xdp_md). XDP_REDIRECT: a PUBLISH
 * left as an HTTP request towards a pod. XDP_DROP: an acknowledgement that was
 * absorbed, or a request that could not be sent (the device repeats it).
 */
SEC("xdp")
int xdp_device(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct scratch *s = scratch_of(HOOK_XDP_DEVICE);
	struct globals *g = globals_get();
	struct take t = {};
	int exit;

	if (!s || !g || g->xdp_idle) /* TC would parse each packet once more, for nothing */
		return XDP_PASS;
	if (packet_parse(data, end, end - data, true, &s->packet) != PARSE_TCP)
		return XDP_PASS;
	t.c = flow_find(&s->packet.tuple, &t.conn);
	if (!t.c || t.conn < knob_slots)
		return XDP_PASS;
	t.d = device_entry(t.conn);
	t.p = &s->packet;
	exit = t.d ? xdp_segment(ctx, s, &t) : exit_for(REASON_NO_ENTRY, XDP_PASS);
	return leave(HOOK_XDP_DEVICE, exit);
}
