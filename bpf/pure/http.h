/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * http.h - reads a pod's responses (RFC 9110, RFC 9112). No kernel context:
 * compiles natively. Only what the kernel path can digest is recognised, and
 * only in its plain form; everything else goes to userspace, which has a full
 * HTTP/1.1 client. What is digested here that client would read the same way:
 * bpf/native compares the two.
 */
#ifndef EPROXY_HTTP_H
#define EPROXY_HTTP_H

#include "common.h"

/* Bytes of a response that are looked at; the head must end within. */
#define HTTP_LOOK  1024
/* Bytes that are looked at where a chunk begins. */
#define HTTP_CHUNK 16
/* Steps of the scan: one per sixteen bytes, two per line, one per byte of an unusual Connection field. */
#define HTTP_STEPS 256

/* What the scan of a head expects at its next byte. */
enum http_at {
	HTTP_VALUE = 0,	  /* the inside of a line */
	HTTP_LINE = 1,	  /* a line's beginning */
	HTTP_NAME = 2,	  /* the inside of a field name */
	HTTP_OPTIONS = 3, /* the inside of a Connection field's list */
};

struct http {
	__u32 status;
	__u32 head_len;
	__u32 body_len;
	__u32 off;	 /* scan: next byte */
	__u32 len;	 /* scan: bytes in hand */
	__u8 digestible; /* whole head, HTTP/1.1, 2xx, body of known length or chunked */
	__u8 close;	 /* the server will close the connection */
	__u8 has_length;
	__u8 chunked;
	__u8 at;    /* enum http_at */
	__u8 token; /* scan: how the list element at off compares with "close" (http_option) */
	__u8 pad[2];
};

/* The responses in a run of bytes, read one after another. Positions are the caller's. */
struct responses {
	__u32 off; /* what has been looked at, whole chunked bodies only */
	__u32 end;
	__u32 left; /* bytes still to come of the response at off */
	__u32 completed;
	__u32 chunk;  /* where the CRLF before the next chunk of the response at off is; 0: not among chunks */
	__u8 close;   /* the server closes after the response at off */
	__u8 closing; /* it closes after the last completed one */
	__u8 status;  /* less 200, of the response at off */
	__u8 pad;
};

static __always_inline __u64 http_word(const __u8 *buf, __u32 off)
{
	return *(const __u64 *)(buf + (off & (HTTP_LOOK - 1)));
}

static __always_inline __u8 http_byte(const __u8 *buf, __u32 off)
{
	return buf[off & (HTTP_LOOK - 1)];
}

/* Eight ASCII characters as the word that a little-endian load of them yields. */
#define WORD(a, b, c, d, e, f, g, h)                                                                                \
	((__u64)(a) | (__u64)(b) << 8 | (__u64)(c) << 16 | (__u64)(d) << 24 | (__u64)(e) << 32 | (__u64)(f) << 40 | \
	 (__u64)(g) << 48 | (__u64)(h) << 56)
#define ONES  0x0101010101010101ull
#define HIGH  (ONES * 0x80)
/* Sets the bit that makes ASCII letters lower case; other characters must be compared without it. */
#define LOWER 0x2020202020202020ull

static __always_inline bool http_crlf(const __u8 *buf, __u32 off)
{
	return http_byte(buf, off) == '\r' && http_byte(buf, off + 1) == '\n';
}

/* Number of the lowest byte whose highest bit is set in flags, counted from one. */
static __always_inline __u32 http_lowest(__u64 flags)
{
	return ((((flags & -flags) - 1) & ONES) * ONES) >> 56;
}

/* A line ends at off. Returns false if it does not. */
static __always_inline bool http_line_end(const __u8 *buf, __u32 off, struct http *h)
{
	h->off = off + 2;
	h->at = HTTP_LINE;
	return http_crlf(buf, off);
}

/* The value of Content-Length at off. Returns false if it is not a plain number below 10^9 (RFC 9110 section 8.6). */
static __always_inline bool http_length(const __u8 *buf, __u32 off, struct http *h)
{
	__u32 n = 0, digits = 0;

	for (int i = 0; i < 14; i++) {
		__u8 b = http_byte(buf, off + i);

		if (!digits && (b == ' ' || b == '\t'))
			continue;
		if (b == '\r') {
			h->body_len = n;
			return digits > 0 && http_line_end(buf, off + i, h);
		}
		if (b < '0' || b > '9' || digits == 9)
			return false;
		n = n * 10 + (b - '0');
		digits++;
	}
	return false;
}

/* The value of Transfer-Encoding at off. Returns false if it is not plainly "chunked" (RFC 9112 section 6.1). */
static __always_inline bool http_coding(const __u8 *buf, __u32 off, struct http *h)
{
	if (http_byte(buf, off) == ' ')
		off++;
	if (((http_word(buf, off) | LOWER) << 8) != WORD(0, 'c', 'h', 'u', 'n', 'k', 'e', 'd'))
		return false;
	return http_line_end(buf, off + 7, h);
}

/* The list of a Connection field begins at off. What most servers send is recognised at once. */
static __always_inline void http_options(const __u8 *buf, __u32 off, struct http *h)
{
	__u64 w = http_word(buf, off), rest = http_word(buf, off + 8) << 24;

	h->token = 0;
	if ((w == WORD(' ', 'k', 'e', 'e', 'p', '-', 'a', 'l') || w == WORD(' ', 'K', 'e', 'e', 'p', '-', 'A', 'l')) &&
	    rest == WORD(0, 0, 0, 'i', 'v', 'e', '\r', '\n')) {
		h->off = off + 13;
		h->at = HTTP_LINE;
	} else {
		h->off = off;
		h->at = HTTP_OPTIONS;
	}
}

/* The element being read is the whole of "close". */
#define TOKEN_CLOSE 5
/* The same, with blanks behind it. */
#define TOKEN_ENDED 6
/* It is something else. */
#define TOKEN_OTHER 7

/*
 * One byte of a Connection field's list (RFC 9110 sections 5.6.1 and 7.6.1):
 * the server closes if one of the elements is "close" (RFC 9112 section 9.3).
 * h->token is below TOKEN_CLOSE the number of its letters seen. Returns false
 * if the byte may not be in a field.
 */
static __always_inline bool http_option(const __u8 *buf, struct http *h)
{
	__u32 off = afresh(h->off), token = h->token & 7;
	__u8 b = http_byte(buf, off);

	if (b == ',' || b == '\r') {
		if (token == TOKEN_CLOSE || token == TOKEN_ENDED)
			h->close = 1;
		h->token = 0;
		if (b == '\r')
			return http_line_end(buf, off, h);
	} else if (b == ' ' || b == '\t') {
		if (token)
			h->token = token == TOKEN_CLOSE || token == TOKEN_ENDED ? TOKEN_ENDED : TOKEN_OTHER;
	} else if (b < ' ' || b == 0x7f) {
		return false;
	} else {
		__u64 letters = WORD('c', 'l', 'o', 's', 'e', 0, 0, 0);

		h->token = token < TOKEN_CLOSE && (b | 0x20) == (__u8)(letters >> token * 8) ? token + 1 : TOKEN_OTHER;
	}
	h->off = off + 1;
	return true;
}

enum http_field {
	FIELD_OTHER, /* says nothing about the message's length or the connection */
	FIELD_READ,  /* the scan goes on behind it, or in its list */
	FIELD_BAD,   /* makes the response indigestible */
};

/* The field line at off. */
static __always_inline enum http_field http_field(const __u8 *buf, __u32 off, struct http *h)
{
	__u64 w = http_word(buf, off) | LOWER;
	__u64 w2;

	if ((__u8)w != 'c' && (__u8)w != 't')
		return FIELD_OTHER;
	w2 = http_word(buf, off + 8) | LOWER;
	if (w == WORD('c', 'o', 'n', 't', 'e', 'n', 't', '-')) {
		if (w2 << 8 != WORD(0, 'l', 'e', 'n', 'g', 't', 'h', ':') || http_byte(buf, off + 7) != '-' ||
		    http_byte(buf, off + 14) != ':')
			return FIELD_OTHER;
		if (h->has_length || !http_length(buf, off + 15, h))
			return FIELD_BAD;
		h->has_length = 1;
		return FIELD_READ;
	}
	if (w == WORD('c', 'o', 'n', 'n', 'e', 'c', 't', 'i')) {
		if (w2 << 40 != WORD(0, 0, 0, 0, 0, 'o', 'n', ':') || http_byte(buf, off + 10) != ':')
			return FIELD_OTHER;
		http_options(buf, off + 11, h);
		return FIELD_READ;
	}
	if (w == WORD('t', 'r', 'a', 'n', 's', 'f', 'e', 'r')) {
		if (w2 != WORD('-', 'e', 'n', 'c', 'o', 'd', 'i', 'n') || (http_byte(buf, off + 16) | 0x20) != 'g' ||
		    http_byte(buf, off + 8) != '-' || http_byte(buf, off + 17) != ':')
			return FIELD_OTHER;
		if (h->chunked || !http_coding(buf, off + 18, h))
			return FIELD_BAD;
		h->chunked = 1;
		return FIELD_READ;
	}
	/* announces a trailer section, which userspace had better read */
	if (w == WORD('t', 'r', 'a', 'i', 'l', 'e', 'r', ':') && http_byte(buf, off + 7) == ':')
		return FIELD_BAD;
	return FIELD_OTHER;
}

/*
 * Eight bytes of a field name: letters, digits and '-' up to the colon, first
 * of all one of them. Blanks before a line (obs-fold) or a colon, and the other
 * characters of RFC 9110 section 5.6.2, are userspace's. Returns false if
 * something else is there.
 */
static __always_inline bool http_name(const __u8 *buf, struct http *h)
{
	__u32 off = afresh(h->off), n;
	__u64 x = http_word(buf, off), x7 = x & ~HIGH, v = x7 | LOWER;
	__u64 letter = (v + ONES * (0x80 - 'a')) & ~(v + ONES * (0x7f - 'z'));
	__u64 digit = (x7 + ONES * (0x80 - '0')) & ~(x7 + ONES * (0x7f - '9'));
	__u64 dash = ~((x7 ^ ONES * '-') + ONES * 0x7f);
	__u64 other = ~((letter | digit | dash) & ~x) & HIGH;

	if (!other) {
		h->off = off + 8;
		h->at = HTTP_NAME;
		return true;
	}
	n = http_lowest(other);
	if (http_byte(buf, off + n - 1) != ':' || (n == 1 && h->at == HTTP_LINE))
		return false;
	h->off = off + n;
	h->at = HTTP_VALUE;
	return true;
}

/* Flags the bytes of a word that are no part of a field value: control characters, of which HTAB is none. */
static __always_inline __u64 http_controls(__u64 x)
{
	return ((x - ONES * ' ') | ((x ^ ONES * 0x7f) - ONES)) & ~x & HIGH;
}

/*
 * Sixteen bytes inside a line, or up to its CRLF. Returns false if there is
 * another control character than HTAB.
 */
static __always_inline bool http_value(const __u8 *buf, struct http *h)
{
	__u32 off = afresh(h->off), n;
	__u64 controls = http_controls(http_word(buf, off));

	if (!controls) {
		off += 8;
		controls = http_controls(http_word(buf, off));
	}
	if (!controls) {
		h->off = off + 8;
		return true;
	}
	n = http_lowest(controls);
	if (http_byte(buf, off + n - 1) == '\t') {
		h->off = off + n;
		return true;
	}
	return http_line_end(buf, off + n - 1, h);
}

/* One step of the scan. Returns true when it is over. */
static __always_inline bool http_step(const __u8 *buf, struct http *h)
{
	__u32 off = afresh(h->off), at = afresh(h->at);

	if (off + 2 > h->len || off >= HTTP_LOOK)
		return true;
	if (at == HTTP_VALUE)
		return !http_value(buf, h);
	if (at == HTTP_OPTIONS)
		return !http_option(buf, h);
	if (at == HTTP_LINE) {
		enum http_field field;

		if (http_byte(buf, off) == '\r') {
			if (http_crlf(buf, off))
				h->head_len = off + 2;
			return true;
		}
		field = http_field(buf, off, h);
		if (field != FIELD_OTHER)
			return field == FIELD_BAD;
	}
	return !http_name(buf, h);
}

/* The scan; its steps are more than the verifier could follow one by one. */
#ifdef EPROXY_BOUNDED
struct http_scan {
	const __u8 *buf;
	struct http *h;
};

static long http_scan_step(__u64 index, void *data)
{
	struct http_scan *scan = data;

	return http_step(scan->buf, scan->h);
}

static __always_inline void http_scan_head(const __u8 *buf, struct http *h)
{
	struct http_scan scan = { .buf = buf, .h = h };

	bpf_loop(HTTP_STEPS, http_scan_step, &scan, 0);
}
#else
static __always_inline void http_scan_head(const __u8 *buf, struct http *h)
{
	repeat(i, HTTP_STEPS) {
		if (http_step(buf, h))
			break;
	}
}
#endif

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
	/* many servers leave the reason phrase out, some with the blank before it */
	if (d0 != 2 || d1 > 9 || d2 > 9 || (buf[12] != ' ' && buf[12] != '\r'))
		return;
	h->status = d0 * 100 + d1 * 10 + d2;
	h->off = 12;
	http_scan_head(buf, h);
	if (!h->head_len || h->head_len > len)
		return;
	if (h->chunked ? h->has_length || h->status == 204 : !h->has_length && h->status != 204)
		return;
	if (h->status == 204) /* RFC 9110 section 15.3.5: no content, whatever is said */
		h->body_len = 0;
	h->digestible = 1;
}

/*
 * The CRLF in front of a chunk at the beginning of buf, and its line (RFC 9112
 * section 7.1), of which at most `left` bytes are there. Returns the bytes up to
 * the end of its data, or of the whole body if it is the last chunk; 0 if it is
 * not whole or not plain: with a chunk extension, a trailer section, or more
 * than six digits.
 */
static __always_inline __u32 http_chunk(const __u8 *buf, __u32 left, bool *last)
{
	__u32 size = 0, n = 2;

	if (!http_crlf(buf, 0))
		return 0;
	for (int i = 2; i < 8; i++) {
		__u8 b = buf[i], letter = (b | 0x20) - 'a', digit = b - '0';

		if (digit > 9 && letter > 5)
			break;
		size = size << 4 | (digit > 9 ? letter + 10 : digit);
		n++;
	}
	if (!within(n, 3, 8) || !http_crlf(buf, n))
		return 0;
	*last = !size;
	if (*last && !http_crlf(buf, n + 2))
		return 0;
	n += *last ? 4 : 2 + size;
	return n <= left ? n : 0;
}

/* Where responses_step wants to read next. */
static __always_inline __u32 responses_at(const struct responses *a)
{
	return a->chunk ? a->chunk : a->off;
}

/* How many bytes it wants there, if there are as many. */
static __always_inline __u32 responses_want(const struct responses *a)
{
	return a->left ? 0 : a->chunk ? HTTP_CHUNK : HTTP_LOOK;
}

/* The response at off is read up to `to`. */
static __always_inline void responses_complete(struct responses *a, __u32 to)
{
	a->off = to;
	a->chunk = 0;
	a->completed++;
	a->closing = a->close;
}

/*
 * Reads one response, or one chunk of it, with n bytes of it in buf. A response
 * with a length may end beyond what is there; a chunked one must be there whole,
 * else off stays at its beginning. Returns true when there is no more to read.
 */
static __always_inline bool responses_step(struct responses *a, struct http *h, const __u8 *buf, __u32 n)
{
	bool last;

	if (a->chunk) {
		n = http_chunk(buf, a->end - a->chunk, &last);
		if (!n)
			return true;
		a->chunk += n;
		if (!last)
			return false;
		responses_complete(a, a->chunk);
		return a->off >= a->end;
	}
	if (!a->left) {
		if (a->closing)
			return true;
		http_parse(buf, n, h);
		if (!h->digestible)
			return true;
		a->close = h->close;
		a->status = h->status - 200;
		if (h->chunked) {
			a->chunk = a->off + h->head_len - 2; /* the CRLF that ends the head */
			return false;
		}
		a->left = h->head_len + h->body_len;
	}
	n = a->end - a->off;
	if (n > a->left)
		n = a->left;
	a->left -= n;
	if (a->left)
		a->off += n;
	else
		responses_complete(a, a->off + n);
	return a->off >= a->end;
}

#endif
