/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* bytes.h - the finished HTTP request in its buffer. Same bytes as internal/request makes. */
#ifndef EPROXY_REQUEST_BYTES_H
#define EPROXY_REQUEST_BYTES_H

#include "../pure/parking.h"
#include "../mech/load.h"
#include "../work/scratch.h"

/* Offsets up to which head and tail may reach; the payload follows. A power of two. */
#define REQUEST_HEAD 1024
/* And up to which head and lines may: what request_tail writes follows. */
#define LINES_END    (REQUEST_HEAD - 96)

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

static __always_inline void put8(struct request *r, __u32 at, __u64 w)
{
	*(__u64 *)(r->buf + (at & (REQUEST_HEAD - 1))) = w;
}

static __always_inline void put1(struct request *r, __u32 at, __u8 b)
{
	r->buf[at & (REQUEST_HEAD - 1)] = b;
}

/* Bytes of a traceparent with its name and the line's end. */
#define TRACEPARENT_LEN 70

/* The request of the parked message with this number, or, if that is PARK_NONE, of the claimed slot. */
static __always_inline struct request *request_of(struct scratch *s, __u32 parked)
{
	struct parked_message *e;

	if (!parked)
		return request_buffer(s->claim.slot, s->claim.number);
	e = parked_entry(parked);
	if (!e)
		return NULL;
	opaque(e); /* the verifier wants no arithmetic on it before it is known to be there */
	return (struct request *)e->buf;
}

/* Bytes of a request up to and including ce-subject, and the traceparent behind it; above HEAD_MAX: some are too long. */
static __always_inline __u32 request_head_len(const struct function *fn, const struct device *d,
					      const struct scratch *s)
{
	__u32 prefix = fn->prefix_len - (s->draft.own_type ? fn->content_len : 0),
	      sender = d->sender_len[fn->from_publisher & 1];

	if (fn->prefix_len > PREFIX_MAX || sender > SENDER_MAX)
		return HEAD_MAX + 1;
	return prefix + sender + sizeof("\r\nce-subject: \r\n") - 1 + s->routed.subject_len +
	       (fn->tracing ? TRACEPARENT_LEN : 0);
}

/*
 * Writes a traceparent of a new trace (W3C Trace Context, section 3.2), and notes it. That trace or span are all zero, which they may not
 * be, is less likely than that memory errs.
 */
static __always_inline void request_traceparent(struct request *r, __u32 at, __u32 threshold, struct draft *d)
{
	for (int i = 0; i < 4; i++)
		d->trace[i] = bpf_get_prandom_u32();
	d->span[0] = bpf_get_prandom_u32();
	d->span[1] = bpf_get_prandom_u32();
	d->sampled = bpf_get_prandom_u32() <= threshold;
	put8(r, at, WORD('t', 'r', 'a', 'c', 'e', 'p', 'a', 'r'));
	put8(r, at + 8, WORD('e', 'n', 't', ':', ' ', '0', '0', '-'));
	for (int i = 0; i < 4; i++)
		put8(r, at + 16 + 8 * i, hex8(d->trace[i]));
	put1(r, at + 48, '-');
	put8(r, at + 49, hex8(d->span[0]));
	put8(r, at + 57, hex8(d->span[1]));
	put8(r, at + 65, WORD('-', '0', '0' + d->sampled, '\r', '\n', 0, 0, 0));
}

/* The function's own Content-Type is taken out of the prefix in r; by how many bytes that gets shorter. */
static __always_inline __u32 request_without_type(struct request *r, const struct function *fn)
{
	__u32 to = fn->content_at, from = to + fn->content_len;

	if (!fn->content_len)
		return 0;
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < PREFIX_MAX; i += 8)
	{
		if (from + i >= afresh(fn->prefix_len))
			break;
		put8(r, to + i, *(const __u64 *)(fn->prefix + ((from + i) & (PREFIX_MAX - 1))));
	}
	return fn->content_len;
}

/*
 * Writes the request's head into the entry of the parked message with this number, or, if that is
 * PARK_NONE, into the buffer of the claimed slot s->claim.slot: what all of the
 * function's have, who sends this one, the subject, and a traceparent where the function wants it. Its length, no more than HEAD_MAX, is
 * known. Words overlap what the next one writes. Returns 0. A function of its own, so that the
 * verifier follows it once.
 */
__attribute__((noinline)) int request_head(__u32 hook, __u32 parked)
{
	struct scratch *s = scratch_of(hook);
	struct function *fn;
	struct request *r;
	struct device *d;
	__u32 at;

	if (!s)
		return 0;
	fn = bpf_map_lookup_elem(&functions, &s->routed.function);
	r = request_of(s, parked);
	d = device_entry(s->origin.index);
	if (!fn || !r || !d)
		return 0;
	copy_lines(r->buf, fn->prefix, &fn->prefix_len, PREFIX_MAX);
	at = fn->prefix_len;
	if (afresh(s->draft.own_type))
		at -= request_without_type(r, fn);
	s->draft.sender_len = d->sender_len[fn->from_publisher & 1];
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < SENDER_MAX; i += 8)
	{
		if (i >= afresh(s->draft.sender_len))
			break;
		put8(r, at + i, *(const __u64 *)(d->sender + i));
	}
	at += afresh(s->draft.sender_len);
	put8(r, at, WORD('\r', '\n', 'c', 'e', '-', 's', 'u', 'b'));
	put8(r, at + 8, WORD('j', 'e', 'c', 't', ':', ' ', 0, 0));
	at += 14;
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < SUBJECT_MAX; i += 8)
	{
		if (i >= afresh(s->routed.subject_len))
			break;
		put8(r, at + i,
		     s->routed.plain ? *(const __u64 *)(s->look + ((s->publish.topic + i) & (MQTT_LOOK - 1)))
				     : *(const __u64 *)(s->topic.subject + i));
	}
	at += afresh(s->routed.subject_len);
	put8(r, at, WORD('\r', '\n', 0, 0, 0, 0, 0, 0));
	if (fn->tracing)
		request_traceparent(r, at + 2, fn->tracing, &s->draft);
	return 0;
}

#endif
