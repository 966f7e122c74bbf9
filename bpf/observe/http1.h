/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * http1.h - follows the messages of one direction of an HTTP/1 connection
 * (RFC 9112), whatever they are and however they were cut into packets. No
 * kernel context: bpf/native/observe compares it with net/http.
 *
 * All that says where a message ends is in lines: the first line, the fields,
 * the lines around chunks. So there are two states, inside a line, of which the
 * first OBSERVE_LINE bytes are kept, and inside of bytes that are skipped.
 * What cannot be read in one way only is STREAM_BROKEN, not guessed.
 */
#ifndef EPROXY_OBSERVE_HTTP1_H
#define EPROXY_OBSERVE_HTTP1_H

#include "../pure/http.h"
#include "abi.h"

#define STREAM_ENDLESS (~0ull)

#define LINE_LOOK 64 /* bytes that are searched for the end of a line at a time; at least OBSERVE_LINE */

struct look {
	__u8 b[LINE_LOOK];
};

/* To the verifier a function by itself, if it is global. */
#ifdef __bpf__
#define NOT_INLINED __attribute__((noinline))
#else
#define NOT_INLINED static __attribute__((noinline))
#endif

/* Which line is next, or at hand. */
enum stream_at {
	AT_FIRST = 0,	/* request line or status line */
	AT_FIELD = 1,	/* of the header section */
	AT_SIZE = 2,	/* of a chunk */
	AT_AFTER = 3,	/* the empty line behind a chunk's data */
	AT_TRAILER = 4, /* of the trailer section */
};

/* What a step found. */
enum stream_event {
	STREAM_NOTHING = 0,
	STREAM_BEGUN = 1,    /* a first line is whole */
	STREAM_ENDED = 2,    /* a message is */
	STREAM_INFORMED = 3, /* a 1xx response is: the final one follows */
	STREAM_SWITCHED = 4, /* a response is behind which another protocol follows */
	STREAM_HTTP2 = 5,    /* the preface of HTTP/2 (RFC 9113 section 3.4) */
	STREAM_TLS = 6,	     /* the first record of a TLS handshake */
	STREAM_BROKEN = 7,   /* this cannot be followed */
};

/* The eight bytes of a line from off on; off is a multiple of 8 below OBSERVE_LINE. */
static __always_inline __u64 line_word(const struct line *l, __u32 off)
{
	return *(const __u64 *)(l->b + (off & (OBSERVE_LINE - 8)));
}

static __always_inline __u8 line_byte(const struct line *l, __u32 off)
{
	return l->b[off & (OBSERVE_LINE - 1)];
}

/* The header section is whole. */
static __always_inline enum stream_event stream_head(struct stream *s, bool response)
{
	s->at = AT_FIRST;
	if (response) {
		if (s->status == 101 || (s->tunnel && s->status / 100 == 2))
			return STREAM_SWITCHED;
		if (s->status < 200)
			return STREAM_INFORMED;
		if (s->bodiless || s->status == 204 || s->status == 304)
			return STREAM_ENDED;
	}
	if (s->chunked) { /* RFC 9112 section 6.3: it overrides a Content-Length */
		s->at = AT_SIZE;
		return STREAM_NOTHING;
	}
	if (s->has_length)
		s->left = s->length;
	else
		s->left = response ? STREAM_ENDLESS : 0;
	if (!s->left)
		return STREAM_ENDED;
	s->body = 1;
	return STREAM_NOTHING;
}

/* A status line of n bytes. */
static __always_inline enum stream_event stream_status_line(struct stream *s, const struct line *l, __u32 n)
{
	__u32 d0 = line_byte(l, 9) - '0', d1 = line_byte(l, 10) - '0', d2 = line_byte(l, 11) - '0';

	if (n < 12 || (line_word(l, 0) & ~(0xffull << 56)) != WORD('H', 'T', 'T', 'P', '/', '1', '.', 0) ||
	    line_byte(l, 8) != ' ' || d0 < 1 || d0 > 5 || d1 > 9 || d2 > 9 || (n > 12 && line_byte(l, 12) != ' '))
		return STREAM_BROKEN;
	s->status = d0 * 100 + d1 * 10 + d2;
	return STREAM_BEGUN;
}

/*
 * Flags the bytes of a word that are not in a method: capitals, '-' and '_' of the
 * characters of RFC 9110 section 5.6.2. Methods with others are nobody's, and
 * text that only looks like a request is not mistaken for one.
 */
static __always_inline __u64 method_ends(__u64 w)
{
	__u64 x7 = w & ~HIGH;
	__u64 letter = (x7 + ONES * (0x80 - 'A')) & ~(x7 + ONES * (0x7f - 'Z'));
	__u64 dash = ~((x7 ^ ONES * '-') + ONES * 0x7f) | ~((x7 ^ ONES * '_') + ONES * 0x7f);

	return ~((letter | dash) & ~w) & HIGH;
}

/* A request line of n bytes: a method of at most 23 and a blank, and more. */
static __always_inline enum stream_event stream_request_line(struct stream *s, const struct line *l, __u32 n)
{
	__u64 w = line_word(l, 0), end = method_ends(w);
	__u32 at = 0;

	if (n >= 8 && w == WORD('P', 'R', 'I', ' ', '*', ' ', 'H', 'T'))
		return STREAM_HTTP2;
	s->bodiless = (w & 0xffffffffffull) == WORD('H', 'E', 'A', 'D', ' ', 0, 0, 0);
	s->tunnel = w == WORD('C', 'O', 'N', 'N', 'E', 'C', 'T', ' ');
	if (!end) {
		end = method_ends(line_word(l, 8));
		at = 8;
	}
	if (!end) {
		end = method_ends(line_word(l, 16));
		at = 16;
	}
	if (!end)
		return STREAM_BROKEN;
	at += http_lowest(end) - 1;
	opaque(at);
	return at && at + 1 < n && line_byte(l, at) == ' ' ? STREAM_BEGUN : STREAM_BROKEN;
}

/* A Content-Length of n bytes with its name. Returns false if it is not one plain number, or another one than before. */
static __always_inline bool stream_length(struct stream *s, const struct line *l, __u32 n)
{
	__u64 length = 0;
	bool some = false, ended = false;

	for (__u32 i = 15; i < OBSERVE_LINE - 1; i++) {
		__u8 b = line_byte(l, i), digit = b - '0';

		if (i >= n)
			break;
		if (b == ' ' || b == '\t') {
			ended = some;
			continue;
		}
		if (digit > 9 || ended)
			return false;
		length = length * 10 + digit;
		some = true;
	}
	if (n >= OBSERVE_LINE || !some || (s->has_length && s->length != length))
		return false;
	s->length = length;
	s->has_length = 1;
	return true;
}

/* A Transfer-Encoding of n bytes with its name. Returns false if it is not plainly "chunked", once. */
static __always_inline bool stream_coding(struct stream *s, const struct line *l, __u32 n)
{
	__u32 blank = line_byte(l, 18) == ' ';
	__u64 w = blank ? *(const __u64 *)(l->b + 19) : *(const __u64 *)(l->b + 18);
	__u8 behind = blank ? line_byte(l, 26) : line_byte(l, 25);

	if ((w | LOWER) << 8 != WORD(0, 'c', 'h', 'u', 'n', 'k', 'e', 'd') || s->chunked)
		return false;
	s->chunked = 1;
	return n == 25 + blank || (n == 26 + blank && behind == ' ');
}

/* What a request's field line of n bytes says of it; names in lower case: w0 and w1 are the first 16 bytes so. */
static __always_inline __u8 stream_mark(const struct line *l, __u32 n, __u64 w0, __u64 w1)
{
	__u64 w2 = line_word(l, 16);

	if (w0 == WORD('k', '-', 'p', 'r', 'o', 'x', 'y', '-') && w1 == WORD('r', 'e', 'q', 'u', 'e', 's', 't', ':'))
		return n == 26 && w2 == WORD(' ', 'a', 'c', 't', 'i', 'v', 'a', 't') && line_byte(l, 24) == 'o' &&
				       line_byte(l, 25) == 'r'
			       ? MARK_PROXIED
			       : MARK_NONE;
	if (w0 == WORD('u', 's', 'e', 'r', '-', 'a', 'g', 'e') && w1 == WORD('n', 't', ':', ' ', 'k', 'u', 'b', 'e'))
		return w2 << 8 == WORD(0, '-', 'p', 'r', 'o', 'b', 'e', '/') ? MARK_PROBE : MARK_NONE;
	if (w0 == WORD('k', '-', 'k', 'u', 'b', 'e', 'l', 'e') && w1 == WORD('t', '-', 'p', 'r', 'o', 'b', 'e', ':'))
		return n > 17 ? MARK_PROBE : MARK_NONE;
	return MARK_NONE;
}

/* A field line of n bytes. */
static __always_inline enum stream_event stream_field(struct stream *s, const struct line *l, __u32 n)
{
	__u64 w0 = line_word(l, 0), w1 = line_word(l, 8) | LOWER;
	bool framed = s->framed, ok = true;
	__u8 first = w0;

	s->framed = 0;
	if (first == ' ' || first == '\t')
		return framed ? STREAM_BROKEN : STREAM_NOTHING; /* obs-fold */
	w0 |= LOWER;
	if (w0 == WORD('c', 'o', 'n', 't', 'e', 'n', 't', '-') && line_byte(l, 7) == '-' &&
	    w1 << 16 == WORD(0, 0, 'l', 'e', 'n', 'g', 't', 'h') && line_byte(l, 14) == ':') {
		s->framed = 1;
		ok = stream_length(s, l, n);
	} else if (w0 == WORD('t', 'r', 'a', 'n', 's', 'f', 'e', 'r') && line_byte(l, 8) == '-' &&
		   w1 == WORD('-', 'e', 'n', 'c', 'o', 'd', 'i', 'n') && (line_byte(l, 16) | 0x20) == 'g' &&
		   line_byte(l, 17) == ':') {
		s->framed = 1;
		ok = stream_coding(s, l, n);
	} else if (n >= 16) { /* shorter ones leave bytes of the line before it behind them */
		s->mark = stream_mark(l, n, w0, w1);
	}
	return ok ? STREAM_NOTHING : STREAM_BROKEN;
}

/* Flags the bytes of a word that are no hexadecimal digits. */
static __always_inline __u64 size_ends(__u64 w)
{
	__u64 x7 = w & ~HIGH, v = x7 | LOWER;
	__u64 digit = (x7 + ONES * (0x80 - '0')) & ~(x7 + ONES * (0x7f - '9'));
	__u64 letter = (v + ONES * (0x80 - 'a')) & ~(v + ONES * (0x7f - 'f'));

	return ~((digit | letter) & ~w) & HIGH;
}

/*
 * The line before a chunk, of n bytes: its size, of at most eight digits, and
 * maybe extensions (RFC 9112 section 7.1). Without a loop, of which the verifier
 * would follow each turn to the end.
 */
static __always_inline enum stream_event stream_size(struct stream *s, const struct line *l, __u32 n)
{
	__u64 w = line_word(l, 0), end = size_ends(w), size;
	__u32 digits = end ? http_lowest(end) - 1 : 8;
	__u8 behind;

	if (digits > n)
		digits = n;
	opaque(digits);
	behind = line_byte(l, digits);
	if (!digits || (digits < n && behind != ';' && behind != ' ' && behind != '\t'))
		return STREAM_BROKEN;
	/* one digit a byte, the last one in the lowest byte; then all of them together */
	size = (w & ONES * 15) + 9 * (w >> 6 & ONES);
	size = __builtin_bswap64(size) >> ((64 - 8 * digits) & 63);
	size = (size | size >> 4) & 0x00ff00ff00ff00ffull;
	size = (size | size >> 8) & 0x0000ffff0000ffffull;
	size = (size | size >> 16) & 0xffffffff;
	s->at = size ? AT_AFTER : AT_TRAILER;
	s->body = size > 0;
	s->left = size;
	return STREAM_NOTHING;
}

/* A message begins: nothing of the one before it counts. Of a response bodiless and tunnel are for whoever sees STREAM_BEGUN. */
static __always_inline void stream_fresh(struct stream *s)
{
	s->length = 0;
	s->chunked = 0;
	s->has_length = 0;
	s->framed = 0;
	s->bodiless = 0;
	s->tunnel = 0;
	s->mark = MARK_NONE;
}

/*
 * A line of n bytes has ended; n is OBSERVE_LINE if it has more. Returns an enum stream_event.
 * A function of its own, so that the verifier follows it once.
 */
NOT_INLINED int stream_line_end(struct stream *s, const struct line *l, __u32 n, __u32 response)
{
	__u32 last = n - 1;

	if (!s || !l)
		return STREAM_BROKEN;
	opaque(last); /* or the verifier would not see the mask of line_byte */
	if (n && n < OBSERVE_LINE && line_byte(l, last) == '\r')
		n--;
	switch (s->at) {
	case AT_FIRST:
		if (!n) /* RFC 9112 section 2.2 */
			return response ? STREAM_BROKEN : STREAM_NOTHING;
		stream_fresh(s);
		s->at = AT_FIELD;
		return response ? stream_status_line(s, l, n) : stream_request_line(s, l, n);
	case AT_FIELD:
		return n ? stream_field(s, l, n) : stream_head(s, response);
	case AT_SIZE:
		return stream_size(s, l, n);
	case AT_AFTER:
		s->at = AT_SIZE;
		return n ? STREAM_BROKEN : STREAM_NOTHING;
	}
	if (n)
		return STREAM_NOTHING;
	s->at = AT_FIRST;
	return STREAM_ENDED;
}

/* Flags the first byte of a word that is LF; what is flagged above it means nothing. */
static __always_inline __u64 line_feeds(__u64 w)
{
	__u64 x = w ^ ONES * '\n';

	return (x - ONES) & ~x & HIGH;
}

/* Where the first LF among the bytes is; LINE_LOOK: nowhere. A function of its own for the same reason. */
NOT_INLINED int line_feed(const struct look *l)
{
	__u64 f;

	if (!l)
		return LINE_LOOK;
	for (__u32 i = 0; i < LINE_LOOK; i += 8) {
		f = line_feeds(*(const __u64 *)(l->b + i));
		if (f)
			return i + http_lowest(f) - 1;
	}
	return LINE_LOOK;
}

/*
 * A field line whose first bytes are at b says nothing that is looked for. Four bytes into
 * its name each that does has others; what only begins like one is not dull.
 */
static __always_inline bool field_dull(const __u8 *b)
{
	__u64 w = *(const __u64 *)(b + 4) | LOWER;

	if (*b <= ' ') /* of obs-fold, or the end of the section */
		return false;
	if (w == WORD('-', 'a', 'g', 'e', 'n', 't', ':', ' '))
		return (b[12] | 0x20) != 'k'; /* User-Agent: kube-probe */
	return w != WORD('e', 'n', 't', '-', 'l', 'e', 'n', 'g') && w != WORD('s', 'f', 'e', 'r', '-', 'e', 'n', 'c') &&
	       w != WORD('o', 'x', 'y', '-', 'r', 'e', 'q', 'u') && w != WORD('b', 'e', 'l', 'e', 't', '-', 'p', 'r');
}

/* One more byte of a line of which fewer than OBSERVE_LINE are kept. */
static __always_inline enum stream_event line_add(struct stream *s, __u8 b, bool response)
{
	__u32 n = s->line_len;

	if (b == '\n') {
		s->line_len = 0;
		return stream_line_end(s, &s->line, n, response);
	}
	opaque(n); /* or the verifier would not see the mask */
	s->line.b[n & (OBSERVE_LINE - 1)] = b;
	s->line_len++;
	return STREAM_NOTHING;
}

/* Keeps the beginning of a line, of which n bytes at b have come. */
static __always_inline void line_keep(struct stream *s, const __u8 *b, __u32 n)
{
	s->line = *(const struct line *)b;
	s->line_len = n < OBSERVE_LINE ? n : OBSERVE_LINE;
}

/*
 * One step over the n > 0 bytes of a line at b, where LINE_LOOK bytes may be read. Sets
 * *used to how many were scanned, at least one. now_ns is when they came.
 */
static __always_inline enum stream_event stream_line(struct stream *s, const __u8 *b, __u32 n, bool response,
						     __u64 now_ns, __u32 *used)
{
	__u32 kept = s->line_len, feed;

	if (kept && kept < OBSERVE_LINE) { /* the line was cut by the end of a packet */
		*used = 1;
		return line_add(s, *b, response);
	}
	if (!kept && s->at == AT_FIRST) {
		s->began_ns = now_ns;
		if (!response && *b == 0x16)
			return STREAM_TLS;
	}
	feed = line_feed((const struct look *)b);
	if (feed < n && feed < LINE_LOOK) {
		*used = feed + 1;
		if (!kept) {
			if (s->at == AT_FIELD && field_dull(b)) {
				s->framed = 0;
				return STREAM_NOTHING;
			}
			return stream_line_end(s, (const struct line *)b, feed < OBSERVE_LINE ? feed : OBSERVE_LINE,
					       response);
		}
		s->line_len = 0;
		return stream_line_end(s, &s->line, OBSERVE_LINE, response);
	}
	if (n > LINE_LOOK)
		n = LINE_LOOK;
	if (!kept)
		line_keep(s, b, n);
	*used = n;
	return STREAM_NOTHING;
}

/* Skips up to n bytes of a body. Sets *used. */
static __always_inline enum stream_event stream_skip(struct stream *s, __u32 n, __u32 *used)
{
	if (s->left == STREAM_ENDLESS) {
		*used = n;
		return STREAM_NOTHING;
	}
	if (n > s->left)
		n = s->left;
	s->left -= n;
	*used = n;
	if (s->left)
		return STREAM_NOTHING;
	s->body = 0;
	return s->at == AT_FIRST ? STREAM_ENDED : STREAM_NOTHING;
}

/*
 * A segment of len bytes begins at seq. Returns false if bytes before it are
 * missing that matter. Those of a body do not: they are skipped now, and as old
 * ones when they come. *front is how many of the segment's bytes were scanned
 * before.
 */
static __always_inline bool stream_place(struct stream *s, __u32 seq, __u32 len, __u32 *front)
{
	__u32 gap = seq - s->next;

	*front = 0;
	if (!gap)
		return true;
	if ((__s32)gap < 0) {
		*front = -gap < len ? -gap : len;
		return true;
	}
	if (!s->body || s->left <= gap)
		return false;
	if (s->left != STREAM_ENDLESS)
		s->left -= gap;
	s->next = seq;
	return true;
}

/* How many requests of a connection's word have been answered, and seen. */
#define CONN_LOST (1ull << 63)
static __always_inline __u32 conn_answered(__u64 word)
{
	return word;
}

static __always_inline __u32 conn_asked(__u64 word)
{
	return (word & ~CONN_LOST) >> 32;
}

/* How many await their response. */
static __always_inline __u32 conn_awaited(__u64 word)
{
	return (conn_asked(word) - conn_answered(word)) & 0x7fffffff;
}

/*
 * Bucket of a duration: eight for each power of two. The middle of a bucket, as
 * userspace takes it, is wrong by 6 % at most.
 */
static __always_inline __u32 observe_bucket(__u64 ns)
{
	__u32 power = OBSERVE_FIRST;

	if (ns < 1ull << OBSERVE_FIRST)
		return 0;
	for (__u32 step = 16; step; step >>= 1)
		if (power + step < 64 && ns >> (power + step))
			power += step;
	power = (power - OBSERVE_FIRST) * 8 + ((ns >> (power - 3)) & 7);
	return power < OBSERVE_BUCKETS ? power : OBSERVE_BUCKETS - 1;
}

#endif
