/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * http.h - reads the head of a pod's response. No kernel context: compiles
 * natively. Only what the kernel path can digest is recognised; everything
 * else goes to userspace, which has a full HTTP/1.1 client.
 */
#ifndef EPROXY_HTTP_H
#define EPROXY_HTTP_H

#include "common.h"

/* Bytes of the response's first segment that are looked at; the head must end within. */
#define HTTP_LOOK  1024
/* Steps of the scan: one per eight bytes and one per line. */
#define HTTP_STEPS 176

struct http {
	__u32 status;
	__u32 head_len;
	__u32 body_len;
	__u32 off;	 /* scan: next byte */
	__u32 len;	 /* scan: bytes in hand */
	__u8 digestible; /* whole head, HTTP/1.1, 2xx, body of known length */
	__u8 close;	 /* the server will close the connection */
	__u8 has_length;
	__u8 line; /* scan: a header line begins at off */
};

static __always_inline __u64 http_word(const __u8 *buf, __u32 off)
{
	return *(const __u64 *)(buf + (off & (HTTP_LOOK - 1)));
}

/* Eight ASCII characters as the word that a little-endian load of them yields. */
#define WORD(a, b, c, d, e, f, g, h)                                                                                \
	((__u64)(a) | (__u64)(b) << 8 | (__u64)(c) << 16 | (__u64)(d) << 24 | (__u64)(e) << 32 | (__u64)(f) << 40 | \
	 (__u64)(g) << 48 | (__u64)(h) << 56)
#define ONES  0x0101010101010101ull
/* Sets the bit that makes ASCII letters lower case; harmless to '-' and ':'. */
#define LOWER 0x2020202020202020ull

/* Content-Length at off. Returns false if it is not a plain number below 2^30. */
static __always_inline bool http_number(const __u8 *buf, __u32 off, __u32 *value)
{
	__u32 n = 0, digits = 0;

	for (int i = 0; i < 14; i++) {
		__u8 b = buf[(off + i) & (HTTP_LOOK - 1)];

		if (!digits && (b == ' ' || b == '\t'))
			continue;
		if (b == '\r') {
			*value = n;
			return digits > 0;
		}
		if (b < '0' || b > '9' || digits == 9)
			return false;
		n = n * 10 + (b - '0');
		digits++;
	}
	return false;
}

/* A header line at off. Returns false if it makes the response indigestible. */
static __always_inline bool http_line(const __u8 *buf, __u32 off, struct http *h)
{
	__u64 w = http_word(buf, off) | LOWER;
	__u64 w2;
	__u32 n;

	if (w == WORD('c', 'o', 'n', 't', 'e', 'n', 't', '-')) {
		w2 = (http_word(buf, off + 8) | LOWER) & 0x00ffffffffffffffull;
		if (w2 != (WORD('l', 'e', 'n', 'g', 't', 'h', ':', 0) & 0x00ffffffffffffffull))
			return true;
		if (h->has_length || !http_number(buf, off + 15, &n))
			return false;
		h->has_length = 1;
		h->body_len = n;
		return true;
	}
	if (w == WORD('c', 'o', 'n', 'n', 'e', 'c', 't', 'i')) {
		/* "on:", blanks, then close or keep-alive */
		for (int i = 11; i < 14; i++) {
			__u8 b = buf[(off + i) & (HTTP_LOOK - 1)] | 0x20;

			if (b == ' ')
				continue;
			h->close = b != 'k';
			return true;
		}
		return false;
	}
	if (w == WORD('t', 'r', 'a', 'n', 's', 'f', 'e', 'r'))
		return false;
	return true;
}

/* One step of the scan: a line, or eight bytes. Returns true when it is over. */
static __always_inline bool http_step(const __u8 *buf, struct http *h)
{
	__u32 off = afresh(h->off);
	__u64 x, t;

	if (off + 2 > h->len || off >= HTTP_LOOK)
		return true;
	if (h->line) {
		if (buf[off & (HTTP_LOOK - 1)] == '\r') {
			h->head_len = off + 2;
			return true;
		}
		if (!http_line(buf, off, h))
			return true;
		h->line = 0;
	}
	x = http_word(buf, off) ^ (ONES * '\n');
	t = (x - ONES) & ~x & (ONES * 0x80);
	if (t) {
		/* bytes up to and including the one with the lowest flag */
		t = ((t & -t) - 1) & ONES;
		h->off = off + ((t * ONES) >> 56);
		h->line = 1;
	} else {
		h->off = off + 8;
	}
	return false;
}

static __always_inline void http_scan_head(const __u8 *buf, struct http *h)
{
	repeat(i, HTTP_STEPS) {
		if (http_step(buf, h))
			break;
	}
}

/* Reads len bytes of a response from its first byte on; buf has HTTP_LOOK + 16 bytes. */
static __always_inline void http_parse(const __u8 *buf, __u32 len, struct http *h)
{
	__u32 d0, d1, d2;

	memset(h, 0, sizeof(*h));
	h->len = len;
	if (len < 16)
		return;
	if (http_word(buf, 0) != WORD('H', 'T', 'T', 'P', '/', '1', '.', '1') || buf[8] != ' ')
		return;
	d0 = buf[9] - '0';
	d1 = buf[10] - '0';
	d2 = buf[11] - '0';
	if (d0 != 2 || d1 > 9 || d2 > 9)
		return;
	h->status = d0 * 100 + d1 * 10 + d2;
	http_scan_head(buf, h);
	if (!h->head_len || h->head_len > len)
		return;
	if (h->status == 204) /* RFC 9110 section 15.3.5: no content, whatever is said */
		h->body_len = 0;
	else if (!h->has_length)
		return;
	h->digestible = 1;
}

#endif
