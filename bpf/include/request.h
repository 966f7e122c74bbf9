/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* request.h - the finished HTTP request in its buffer. Same bytes as internal/request makes. */
#ifndef EPROXY_REQUEST_H
#define EPROXY_REQUEST_H

#include "scratch.h"

/* Offsets up to which head and tail may reach; the payload follows. */
#define REQUEST_HEAD 1024

/* Eight hexadecimal digits, most significant first. */
static __always_inline __u64 hex8(__u32 v)
{
	__u64 x = v;
	__u64 letters;

	x = (x | x << 16) & 0x0000ffff0000ffffull;
	x = (x | x << 8) & 0x00ff00ff00ff00ffull;
	x = (x | x << 4) & 0x0f0f0f0f0f0f0f0full;
	letters = ((x + 0x0606060606060606ull) >> 4) & ONES;
	x += 0x3030303030303030ull + letters * ('a' - '0' - 10);
	return __builtin_bswap64(x);
}

/* Bytes that request_tail writes. */
static __always_inline __u32 request_tail_len(const struct publish *p, __u32 payload_len)
{
	__u32 n = 7 + CE_ID_LEN + 2 + 16 + 4 + (p->qos ? 15 : 0);

	return n + (payload_len < 10 ? 1 : payload_len < 100 ? 2 : payload_len < 1000 ? 3 : 4);
}

static __always_inline void put8(struct request *r, __u32 at, __u64 w)
{
	*(__u64 *)(r->buf + (at & (REQUEST_HEAD - 1))) = w;
}

static __always_inline void put1(struct request *r, __u32 at, __u8 b)
{
	r->buf[at & (REQUEST_HEAD - 1)] = b;
}

/*
 * Writes what follows ce-subject, from offset `at`. Stores are eight bytes
 * wide and overlap what the next one writes. Returns the payload's offset.
 */
static __always_inline __u32 request_tail(struct request *r, const struct slot *slot, __u32 at, const struct publish *p,
					  __u32 payload_len)
{
	if (p->qos) {
		put8(r, at, WORD('X', '-', 'M', 'q', 't', 't', '-', 'Q'));
		put8(r, at + 8, WORD('o', 's', ':', ' ', '1', '\r', '\n', 0));
		at += 15;
	}
	put8(r, at, WORD('c', 'e', '-', 'i', 'd', ':', ' ', 0));
	put8(r, at + 7, *(__u64 *)slot->id_prefix);
	put8(r, at + 15, *(__u64 *)(slot->id_prefix + 8));
	put8(r, at + 19, hex8(slot->count));
	at += 7 + CE_ID_LEN;
	put8(r, at, WORD('\r', '\n', 'C', 'o', 'n', 't', 'e', 'n'));
	put8(r, at + 8, WORD('t', '-', 'L', 'e', 'n', 'g', 't', 'h'));
	put8(r, at + 16, WORD(':', ' ', 0, 0, 0, 0, 0, 0));
	at += 18;
	if (payload_len >= 1000)
		put1(r, at++, '0' + payload_len / 1000 % 10);
	if (payload_len >= 100)
		put1(r, at++, '0' + payload_len / 100 % 10);
	if (payload_len >= 10)
		put1(r, at++, '0' + payload_len / 10 % 10);
	put1(r, at++, '0' + payload_len % 10);
	put8(r, at, WORD('\r', '\n', '\r', '\n', 0, 0, 0, 0));
	return at + 4;
}

#endif
