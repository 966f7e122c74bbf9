/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* packet.c - packets, and the helpers that read, change and send them. */
#include <stdlib.h>
#include <sys/mman.h>

#include "inside.h"

#define POOL	 (4u << 20)
#define PACKET	 8192
#define HEADROOM 512

static __u8 *pool;
static __u32 pooled;

void packets_reset(void)
{
	if (!pool)
		pool = mmap(NULL, POOL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	if (pool == MAP_FAILED)
		abort();
	pooled = 0;
}

static void skb_set(struct skb *k, __u8 *data, __u32 len)
{
	k->ctx.len = len;
	k->ctx.data = (__u32)(uintptr_t)data;
	k->ctx.data_end = k->ctx.data + len;
}

static __u8 *skb_data(const struct skb *k)
{
	return (__u8 *)(uintptr_t)k->ctx.data;
}

struct skb *skb_new(const __u8 *bytes, __u32 len)
{
	struct skb *k = (struct skb *)(pool + pooled);

	pooled += PACKET;
	if (pooled > POOL || len > PACKET - 2 * HEADROOM - sizeof(*k))
		abort();
	memset(k, 0, sizeof(*k));
	k->head = (__u8 *)(k + 1);
	skb_set(k, k->head + HEADROOM, len);
	memcpy(skb_data(k), bytes, len);
	return k;
}

struct record *record_new(enum record_kind kind)
{
	struct record *r = &machine.record[machine.records];

	if (machine.records == RECORDS - 1)
		fault("does not come to an end");
	else
		machine.records++;
	r->kind = kind;
	r->task = current->id;
	r->len = 0;
	return r;
}

void record_frame(enum record_kind kind, const struct skb *k, __u32 ifindex)
{
	struct record *r = record_new(kind);

	r->ifindex = ifindex;
	r->len = k->ctx.len < RECORD_BYTES ? k->ctx.len : RECORD_BYTES;
	memcpy(r->bytes, skb_data(k), r->len);
}

/* A packet leaves through an interface; its egress program comes first. */
void leave(struct skb *k, __u32 ifindex)
{
	bool device = ifindex == NODE_IFINDEX;
	int verdict;

	k->ctx.ifindex = ifindex;
	verdict = device ? tc_device_out(&k->ctx) : tc_pod_out(&k->ctx);
	record_frame(verdict != TC_OK ? RECORD_DROP : device ? RECORD_DEVICE_WIRE : RECORD_POD_WIRE, k, ifindex);
}

long bpf_redirect(__u32 ifindex, __u64 flags)
{
	current->to_ifindex = ifindex;
	current->to_peer = false;
	return current->xdp ? XDP_REDIRECT : TC_REDIRECTED;
}

long bpf_redirect_peer(__u32 ifindex, __u64 flags)
{
	current->to_ifindex = ifindex;
	current->to_peer = true;
	return TC_REDIRECTED;
}

/* The clone leaves at once, on this processor; or it is received when the processor is done with what came before. */
long bpf_clone_redirect(struct __sk_buff *skb, __u32 ifindex, __u64 flags)
{
	struct skb *from = (struct skb *)skb, *k = skb_new(skb_data(from), from->ctx.len);

	k->ctx.mark = from->ctx.mark;
	k->ctx.ingress_ifindex = from->ctx.ingress_ifindex;
	k->kernel = from->kernel;
	if (flags & BPF_F_INGRESS) {
		k->ctx.ifindex = ifindex;
		if (current->backlogged < BACKLOG)
			current->backlog[current->backlogged++] = k;
		else
			fault("too many clones wait");
	} else {
		leave(k, ifindex);
	}
	return 0;
}

void *bpf_cast_to_kern_ctx(void *ctx)
{
	return &((struct skb *)ctx)->kernel;
}

struct bpf_sock *bpf_sk_fullsock(struct bpf_sock *sk)
{
	return sk;
}

void *bpf_skc_to_tcp_sock(void *sk)
{
	return sk;
}

long bpf_sk_release(void *sk)
{
	current->references--;
	return 0;
}

long bpf_skb_pull_data(struct __sk_buff *skb, __u32 len)
{
	return len <= skb->len ? 0 : -1;
}

static long load(const __u8 *data, __u32 size, __u32 off, void *to, __u32 len)
{
	if (off > size || len > size - off)
		return -1;
	touch_range(to, len, true);
	memcpy(to, data + off, len);
	return 0;
}

/* In two halves: another processor may be at the same bytes. */
static long store(__u8 *data, __u32 size, __u32 off, const void *from, __u32 len)
{
	__u32 half = len / 2;

	if (off > size || len > size - off)
		return -1;
	touch_range(from, len, false);
	memcpy(data + off, from, half);
	touch_range(from, len, false);
	memcpy(data + off + half, (const __u8 *)from + half, len - half);
	return 0;
}

long bpf_skb_load_bytes(const void *ctx, __u32 off, void *to, __u32 len)
{
	const struct skb *k = ctx;

	return load(skb_data(k), k->ctx.len, off, to, len);
}

long bpf_skb_store_bytes(struct __sk_buff *skb, __u32 off, const void *from, __u32 len, __u64 flags)
{
	return store(skb_data((struct skb *)skb), skb->len, off, from, len);
}

long bpf_skb_change_tail(struct __sk_buff *skb, __u32 len, __u64 flags)
{
	struct skb *k = (struct skb *)skb;

	if (len > PACKET - 2 * HEADROOM - sizeof(*k))
		return -1;
	if (len > skb->len)
		memset(skb_data(k) + skb->len, 0, len - skb->len);
	skb_set(k, skb_data(k), len);
	return 0;
}

long bpf_skb_vlan_push(struct __sk_buff *skb, __be16 proto, __u16 tci)
{
	return -1; /* no scenario has tags */
}

long bpf_skb_vlan_pop(struct __sk_buff *skb)
{
	return -1;
}

long bpf_xdp_load_bytes(struct xdp_md *ctx, __u32 off, void *to, __u32 len)
{
	return load((__u8 *)(uintptr_t)ctx->data, ctx->data_end - ctx->data, off, to, len);
}

long bpf_xdp_store_bytes(struct xdp_md *ctx, __u32 off, void *from, __u32 len)
{
	return store((__u8 *)(uintptr_t)ctx->data, ctx->data_end - ctx->data, off, from, len);
}

/* As on veth: 256 bytes less what the kernel keeps there. */
long bpf_xdp_adjust_head(struct xdp_md *ctx, int delta)
{
	if (delta < -216 || (int)(ctx->data_end - ctx->data) - delta < 14)
		return -1;
	ctx->data += delta;
	return 0;
}

__u64 bpf_xdp_get_buff_len(struct xdp_md *ctx)
{
	return ctx->data_end - ctx->data;
}

/* Checksums, as lib/checksum.c and net/core/utils.c have them. */
static __u32 fold32(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	return sum;
}

static __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

__s64 bpf_csum_diff(__be32 *from, __u32 from_size, __be32 *to, __u32 to_size, __u32 seed)
{
	__u64 sum = seed;

	if (from_size % 4 || to_size % 4 || from_size > 512 || to_size > 512)
		return -22;
	if (to_size)
		touch_range(to, to_size, false);
	for (__u32 i = 0; i < from_size / 4; i++)
		sum += (__u32)~from[i];
	for (__u32 i = 0; i < to_size / 4; i++)
		sum += to[i];
	return fold32(sum);
}

__s64 bpf_csum_update(struct __sk_buff *skb, __wsum csum)
{
	return -524; /* ENOTSUPP: no skb here is CHECKSUM_COMPLETE */
}

static void sum_replace(__u8 *at, __u32 from, __u32 to)
{
	__u16 check;

	memcpy(&check, at, 2);
	check = fold(fold32((__u64)(__u16)~check + (__u32)~from + to));
	memcpy(at, &check, 2);
}

/* Every packet here has its checksum complete: CHECKSUM_NONE. */
long bpf_l4_csum_replace(struct __sk_buff *skb, __u32 off, __u64 from, __u64 to, __u64 flags)
{
	__u8 *at = skb_data((struct skb *)skb) + off;

	switch (flags & 15) {
	case 0:
		if (from)
			return -22;
		sum_replace(at, 0xffffffff, to);
		return 0;
	case 2:
		sum_replace(at, (__u16)from, (__u16)to);
		return 0;
	case 4:
		sum_replace(at, from, to);
		return 0;
	}
	return -22;
}

long bpf_l3_csum_replace(struct __sk_buff *skb, __u32 off, __u64 from, __u64 to, __u64 size)
{
	return bpf_l4_csum_replace(skb, off, from, to, size);
}

/* The ring buffers: what is submitted becomes a record. Copies have their order from when they are reserved. */
static struct event reserved[TASKS];
static struct copy copying[TASKS];
static struct record *copied[TASKS];

__u64 bpf_ringbuf_query(void *ring, __u64 what)
{
	return what == BPF_RB_RING_SIZE ? 1 << 20 : 0;
}

static void *copy_reserved(__u64 size)
{
	__u32 id = current->id;

	if (machine.copies_full || size < offsetof(struct copy, bytes))
		return NULL;
	if (copied[id])
		fault("reserves a copy while it has one");
	copied[id] = record_new(RECORD_COPY);
	memset(&copying[id], 0xa5, sizeof(struct copy));
	return &copying[id];
}

void bpf_ringbuf_discard(void *data, __u64 flags)
{
	if (flags & BPF_RB_NO_WAKEUP)
		fault("discards a record without waking the reader, who may wait at it");
	copied[current->id] = NULL;
}

void *bpf_ringbuf_reserve(void *ring, __u64 size, __u64 flags)
{
	if (current->held)
		fault("calls a helper while it holds a lock");
	if (size != sizeof(struct event))
		return copy_reserved(size);
	memset(&reserved[current->id], 0xa5, sizeof(struct event));
	return &reserved[current->id];
}

void bpf_ringbuf_submit(void *data, __u64 flags)
{
	__u32 id = current->id;
	struct record *r;

	if (data == &copying[id]) {
		r = copied[id];
		copied[id] = NULL;
		r->len = offsetof(struct copy, bytes) + copying[id].len;
		memcpy(r->bytes, data, r->len);
		return;
	}
	r = record_new(RECORD_EVENT);
	memcpy(&r->event, data, sizeof(r->event));
}
