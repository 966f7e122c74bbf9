/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * sack.h - TCP options with selective acknowledgements (RFC 2018, RFC 2883):
 * found at any alignment, translated edge by edge, written back in the same
 * length. No kernel context: compiles natively. What needs the connection runs
 * under its lock and is the same for devices and pods.
 */
#ifndef EPROXY_SACK_H
#define EPROXY_SACK_H

#include "ledger.h"

#define OPTIONS_MAX  40 /* bytes of a TCP header's options */
#define OPTIONS_ROOM 64 /* room for them, for masked accesses */
#define SACK_BLOCKS  4	/* most that fit */

#define OPTION_END  0
#define OPTION_NOP  1
#define OPTION_SACK 5

/* Received bytes [from, to): sequence numbers in host byte order. */
struct sack_block {
	__u32 from;
	__u32 to;
};

/* A TCP header's options, while they are read and translated. */
struct sack {
	__u8 before[OPTIONS_ROOM]; /* as they are in the segment, zero behind the last one */
	__u8 bytes[OPTIONS_ROOM];  /* as they will leave */
	__u32 len;		   /* bytes of options */
	__u32 left;		   /* of the current one, still to come */
	__u32 blank;		   /* the current one becomes NOPs */
	__u32 other;		   /* there are others than NOP and one SACK, or they are malformed */
	__u32 at;		   /* where the SACK option begins */
	__u32 came;		   /* its blocks; 0: there is none */
	__u32 count;		   /* of them, those in blocks: all, then those that are left */
	struct sack_block blocks[SACK_BLOCKS];
	/* what follows is of received ones only */
	struct sack_block wire[SACK_BLOCKS]; /* as they are on the wire; empty: none, or D-SACK */
	struct sack_block grafts[LEDGER_RING];
	__u32 graft_count;
	__u32 base;
	__u32 una;	  /* wire: latest acknowledgement */
	__u32 top;	  /* wire: the highest block ends here */
	__u32 kernel_una; /* the same with the base, without the grafts */
	__u32 kernel_top;
	__u32 lacking; /* bytes of the local socket between the two that are in no block; negative: blocks overlap */
	struct again again;
};

static __always_inline __u32 sack_edge(const struct sack *k, __u32 at)
{
	const __u8 *b = k->before;

	return (__u32)b[at & (OPTIONS_ROOM - 1)] << 24 | (__u32)b[(at + 1) & (OPTIONS_ROOM - 1)] << 16 |
	       (__u32)b[(at + 2) & (OPTIONS_ROOM - 1)] << 8 | b[(at + 3) & (OPTIONS_ROOM - 1)];
}

/*
 * One byte of the options, from the first to the last, as the kernel goes
 * through them (net/ipv4/tcp_input.c, tcp_parse_options). Returns whether what
 * follows does not matter. Before the first everything but before, bytes and len
 * is zero. A second SACK option becomes NOPs: the kernel would take that one.
 */
static __always_inline bool sack_scan(struct sack *k, __u32 at)
{
	__u8 kind, n;

	if (at >= k->len || at >= OPTIONS_MAX)
		return true;
	if (k->left) {
		k->left--;
		if (k->blank)
			k->bytes[at & (OPTIONS_ROOM - 1)] = OPTION_NOP;
		return false;
	}
	kind = k->before[at & (OPTIONS_ROOM - 1)];
	if (kind == OPTION_NOP)
		return false;
	if (kind == OPTION_END)
		return true;
	n = k->before[(at + 1) & (OPTIONS_ROOM - 1)];
	if (n < 2 || at + n > k->len) {
		k->other = 1;
		return true;
	}
	k->left = n - 1;
	if (kind != OPTION_SACK || n < 10 || (n - 2) % 8) {
		k->other = 1;
		return false;
	}
	if (k->came) {
		k->other = 1;
		k->blank = 1;
		k->bytes[at & (OPTIONS_ROOM - 1)] = OPTION_NOP;
		return false;
	}
	k->at = at;
	k->came = (n - 2) / 8;
	return false;
}

/* After sack_scan: reads the blocks. */
static __always_inline void sack_read(struct sack *k)
{
	for (__u32 i = 0; i < SACK_BLOCKS; i++) {
		if (i >= afresh(k->came))
			break;
		k->blocks[i].from = sack_edge(k, k->at + 2 + 8 * i);
		k->blocks[i].to = sack_edge(k, k->at + 6 + 8 * i);
	}
	k->count = k->came;
}

/*
 * One byte of the SACK option, the n-th of 2 + 8 * came: the blocks that are left,
 * behind as many NOPs as the others took.
 */
static __always_inline bool sack_write(struct sack *k, __u32 n)
{
	__u32 gone = 8 * (k->came - k->count), at = k->at + n, edge;
	__u8 b = OPTION_NOP;

	if (n >= 2 + 8 * k->came)
		return true;
	if (k->count && n >= gone) {
		n -= gone;
		if (n < 2) {
			b = n ? 2 + 8 * k->count : OPTION_SACK;
		} else {
			const struct sack_block *block = &k->blocks[(n - 2) / 8 & (SACK_BLOCKS - 1)];

			edge = (n - 2) & 4 ? block->to : block->from;
			b = edge >> (24 - 8 * ((n - 2) & 3));
		}
	}
	k->bytes[at & (OPTIONS_ROOM - 1)] = b;
	return false;
}

/*
 * A whole SACK option with n blocks, aligned as RFC 2018 section 3 shows it; `to`
 * is aligned. Returns its length, a multiple of four.
 */
static __always_inline __u32 sack_option(__u8 *to, const struct sack_block *blocks, __u32 n)
{
	__be32 *word = (__be32 *)to;

	word[0] = bpf_htonl(OPTION_NOP << 24 | OPTION_NOP << 16 | OPTION_SACK << 8 | (2 + 8 * n));
	for (__u32 i = 0; i < SACK_BLOCKS; i++) {
		if (i >= afresh(n))
			break;
		word[1 + 2 * i] = bpf_htonl(blocks[i].from);
		word[2 + 2 * i] = bpf_htonl(blocks[i].to);
	}
	return 4 + 8 * n;
}

/*
 * Notes bytes that are sent or passed a second time, under whatever numbers
 * they have in either space then. Those that follow the latest in both belong to them.
 */
static __always_inline void again_note(struct again *a, __u32 wire, __u32 kernel, __u32 len)
{
	if (a->len && a->wire + a->len == wire && a->kernel + a->len == kernel) {
		a->len += len;
		return;
	}
	a->wire = wire;
	a->kernel = kernel;
	a->len = len;
}

/* Moves a block that lies in [from, from + len) to where that range begins at `to`. Returns false if it does not. */
static __always_inline bool again_move(struct sack_block *b, __u32 from, __u32 to, __u32 len)
{
	__u32 off = b->from - from, n = b->to - b->from;

	if (off > len || n > len - off)
		return false;
	b->from = to + off;
	b->to = b->from + n;
	return true;
}

/*
 * Whether the first block reports a duplicate below the acknowledgement (RFC
 * 2883 section 4.1). One above it lies in another block, and is as good as any.
 */
static __always_inline bool sack_duplicate(const struct sack *k, __u32 i, __u32 ack)
{
	return !i && seq_lt(k->blocks[0].from, ack);
}

/*
 * From the local socket to the peer: kack is the segment's acknowledgement, ack
 * what became of it. What the peer may not be shown is left out: a block that
 * begins at or below the acknowledgement looks as if we had forgotten bytes, and
 * Linux waits for its retransmission timeout then.
 */
static __always_inline void sack_to_wire(struct sack *k, struct conn *c, __u32 kack, __u32 ack)
{
	__u32 kept = 0;

	for (__u32 i = 0; i < SACK_BLOCKS; i++) {
		struct sack_block b;

		if (i >= afresh(k->came))
			break;
		b = k->blocks[i];
		if (!seq_lt(b.from, b.to))
			continue;
		if (sack_duplicate(k, i, kack)) {
			if (!again_move(&b, c->rx_again.kernel, c->rx_again.wire, c->rx_again.len) || seq_gt(b.to, ack))
				continue;
		} else {
			ledger_range_to_wire(&c->rx, &b.from, &b.to);
			if (!seq_gt(b.from, ack) || !seq_lt(b.from, b.to))
				continue;
		}
		k->blocks[kept & (SACK_BLOCKS - 1)] = b;
		kept++;
	}
	k->count = kept;
}

/*
 * From the peer to the local socket, in three steps, of which only the first needs
 * the lock: sack_admit, sack_strip for each graft in k->grafts, sack_keep. Of a segment
 * with the acknowledgement ack, before the ledger has heard of that.
 */
static __always_inline void sack_admit(struct sack *k, struct conn *c, __u32 ack)
{
	__u32 una = seq_gt(ack, c->tx_una) ? ack : c->tx_una;

	k->una = k->kernel_una = una;
	k->top = k->kernel_top = una;
	k->base = c->tx.base;
	k->graft_count = c->tx.count;
	repeat(i, c->tx.count) {
		const struct graft *g = ledger_at(&c->tx, i);

		k->grafts[i & (LEDGER_RING - 1)].from = g->seq;
		k->grafts[i & (LEDGER_RING - 1)].to = g->seq + g->len;
	}
	for (__u32 i = 0; i < SACK_BLOCKS; i++) {
		struct sack_block b = k->blocks[i];

		k->wire[i].from = k->wire[i].to = 0;
		if (i >= afresh(k->came) || !seq_lt(b.from, b.to)) {
			k->blocks[i].to = b.from;
		} else if (sack_duplicate(k, i, ack)) {
			k->again = c->tx_again;
		} else if (seq_gt(b.from, una) && seq_le(b.to, c->tx_nxt)) {
			k->wire[i] = b;
			if (seq_gt(b.to, k->top))
				k->top = k->kernel_top = b.to;
		}
	}
}

/* How many bytes of the range lie below the wire position. */
static __always_inline __u32 sack_below(const struct sack_block *range, __u32 wire)
{
	__u32 below = wire - range->from, len = range->to - range->from;

	return seq_le(wire, range->from) ? 0 : below < len ? below : len;
}

/* Takes the n-th graft out of all positions. Returns whether there are no more. */
static __always_inline bool sack_strip(struct sack *k, __u32 n)
{
	const struct sack_block *g = &k->grafts[n & (LEDGER_RING - 1)];

	if (n >= k->graft_count)
		return true;
	for (__u32 i = 0; i < SACK_BLOCKS; i++) {
		if (k->wire[i].from == k->wire[i].to)
			continue;
		k->blocks[i].from -= sack_below(g, k->wire[i].from);
		k->blocks[i].to -= sack_below(g, k->wire[i].to);
	}
	k->kernel_una -= sack_below(g, k->una);
	k->kernel_top -= sack_below(g, k->top);
	return false;
}

/*
 * What the socket may be shown: blocks that cover only insertions vanish, and so
 * do those that begin at what is acknowledged then. Counts how many bytes of the
 * socket below the highest block are in none.
 */
static __always_inline void sack_keep(struct sack *k, __u32 ack)
{
	__u32 kept = 0;

	k->lacking = k->kernel_top - k->kernel_una;
	for (__u32 i = 0; i < SACK_BLOCKS; i++) {
		struct sack_block b = k->blocks[i];
		bool whole = k->wire[i].from != k->wire[i].to;

		if (whole) {
			b.from -= k->base;
			b.to -= k->base;
			k->lacking -= b.to - b.from;
			if (!seq_gt(b.from, k->kernel_una - k->base) || !seq_lt(b.from, b.to))
				continue;
		} else if (i || seq_gt(b.to, ack) || !seq_lt(b.from, b.to) ||
			   !again_move(&b, k->again.wire, k->again.kernel, k->again.len)) {
			continue;
		}
		k->blocks[kept & (SACK_BLOCKS - 1)] = b;
		kept++;
	}
	k->count = kept;
}

#endif
