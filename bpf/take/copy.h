/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * copy.h - subscribers' copy of a message that is taken (also_broker). Userspace gets the PUBLISH as it came, through the ring
 * copies, and does with it what it does with one that it has read itself.
 *
 * The room is reserved before the message is accounted as taken, under the connection's lock, and given back if it is not: a message
 * that is taken has its copy, whatever comes after. The order of the ring is that of each client's stream, for whoever reserves has seen
 * that the message is next in it, which it is only when the one before has been accounted. A record that is discarded wakes the reader: it may
 * wait at this very one, and is not woken for those behind it (kernel/bpf/ringbuf.c, bpf_ringbuf_commit).
 */
#ifndef EPROXY_TAKE_COPY_H
#define EPROXY_TAKE_COPY_H

#include "../admit/account.h"
#include "../mech/load.h"
#include "../mech/verdict.h"

/* Bytes of the ring that the longest copy takes, with the ring's own header. */
#define COPY_ROOM (sizeof(struct copy) + BPF_RINGBUF_HDR_SZ)

/*
 * Whether a message of the connection can be copied now. Returns enum reason. What the server has, or may have, of the client's stream comes
 * before it to subscribers [MQTT-4.6.0-5]. A look at the ring's room before a slot is claimed: copy_make makes sure. A function of its
 * own, so that the verifier follows it once, and messages of other routes do not pay for it.
 */
__attribute__((noinline)) int copy_may(__u32 conn)
{
	if (!device_clear(conn))
		return REASON_ORDER_UNKNOWN;
	if (bpf_ringbuf_query(&copies, BPF_RB_AVAIL_DATA) + COPY_ROOM > bpf_ringbuf_query(&copies, BPF_RB_RING_SIZE))
		return REASON_COPIES_FULL;
	return REASON_TAKEN;
}

/* The message at the front of the packet, or what was kept of it, of len bytes. Whether it could be read. */
static __always_inline bool copy_load(void *ctx, bool xdp, const struct scratch *s, __u8 *to, __u32 len)
{
	struct kept *k;

	if (xdp || !afresh(s->admit.kept))
		return !packet_load(ctx, xdp, s->packet.payload, to, len);
	k = kept_entry(s->conn);
	return k && !bpf_probe_read_kernel(to, len, k->bytes);
}

/* A copy of the message in s, in a record with room for so many bytes of it: a constant, as the verifier wants it. NULL: there is none. */
static __always_inline struct copy *copy_reserve(void *ctx, bool xdp, const struct scratch *s, const __u32 room)
{
	struct copy *e = bpf_ringbuf_reserve(&copies, offsetof(struct copy, bytes) + room, 0);
	__u32 len = s->publish.length;

	if (!e)
		return NULL;
	if (!within(len, 2, room) || !copy_load(ctx, xdp, s, e->bytes, len)) {
		bpf_ringbuf_discard(e, BPF_RB_FORCE_WAKEUP);
		return NULL;
	}
	e->conn = s->origin.index;
	e->gen = s->origin.gen;
	e->len = len;
	e->pad = 0;
	return e;
}

/* A copy of the message in s, to be submitted or discarded. NULL: there is no room for it. */
static __always_inline struct copy *copy_make(void *ctx, bool xdp, const struct scratch *s)
{
	if (s->publish.length <= COPY_SHORT)
		return copy_reserve(ctx, xdp, s, COPY_SHORT);
	return copy_reserve(ctx, xdp, s, COPY_MAX);
}

/* take_settle of a message with its copy. */
static __always_inline int copy_settle(void *ctx, bool xdp, struct scratch *s)
{
	enum hook hook = xdp ? HOOK_XDP_DEVICE : HOOK_TC_DEVICE_IN;
	struct device *d = device_entry(s->origin.index);
	struct conn *c = conn_entry(s->origin.index);
	__u32 hold = HOLD_NONE;
	enum reason reason;
	struct copy *e;

	if (!c || !d)
		return REASON_NO_ENTRY;
	e = copy_make(ctx, xdp, s);
	if (!e)
		return REASON_COPIES_FULL;
	reason = take_settle(c, d, s, bpf_ktime_get_ns(), s->copying.who, s->copying.done, &hold);
	if (reason) {
		bpf_ringbuf_discard(e, BPF_RB_FORCE_WAKEUP);
		return reason;
	}
	bpf_ringbuf_submit(e, 0);
	count(hook, REASON_COPIED);
	s->copying.hold = hold;
	return REASON_TAKEN;
}

/* Functions of their own, one for each kind of packet, so that the verifier follows all this once. */
__attribute__((noinline)) int copy_settle_xdp(struct xdp_md *ctx)
{
	struct scratch *s = scratch_of(HOOK_XDP_DEVICE);

	return s ? copy_settle(ctx, true, s) : REASON_NO_ENTRY;
}

__attribute__((noinline)) int copy_settle_tc(struct __sk_buff *skb)
{
	struct scratch *s = scratch_of(HOOK_TC_DEVICE_IN);

	return s ? copy_settle(skb, false, s) : REASON_NO_ENTRY;
}

/* The message in s is accounted as taken, with its copy, as take_settle says. */
static __always_inline enum reason copy_account(void *ctx, bool xdp, struct scratch *s, __u32 who, bool done,
						__u32 *hold)
{
	enum reason reason;

	s->copying.who = who;
	s->copying.done = done;
	reason = xdp ? copy_settle_xdp(ctx) : copy_settle_tc(ctx);
	*hold = s->copying.hold;
	return reason;
}

#endif
