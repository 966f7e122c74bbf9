/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * lines.h - what a message's MQTT 5 properties become in its request. Same bytes as internal/request makes. They are made before there is a
 * place for the request, whose length they are part of. All of it are functions of their own, so that the verifier
 * follows each once, and messages without properties do not pay for it.
 */
#ifndef EPROXY_REQUEST_LINES_H
#define EPROXY_REQUEST_LINES_H

#include "bytes.h"

/* Bytes of a user property's name: they are looked at one by one. */
#define NAME_MAX 64

static __always_inline void line_put8(struct message_properties *m, __u32 at, __u64 w)
{
	*(__u64 *)(m->lines + (at & (LINES_MAX - 1))) = w;
}

static __always_inline __u64 raw_word(const struct message_properties *m, __u32 off)
{
	return *(const __u64 *)(m->raw + (off & (PROPERTIES_MAX - 1)));
}

/*
 * Writes the text of len bytes at `from` among the properties behind the lines so far, and the line's end behind it. Returns enum
 * reason: it has characters that are not written here.
 */
__attribute__((noinline)) int lines_text(__u32 hook, __u32 from, __u32 len)
{
	struct scratch *s = scratch_of(hook);
	struct message_properties *m;
	__u32 end;

	if (!s)
		return REASON_PROPERTY_TEXT;
	m = &s->properties;
	m->len = len;
	end = m->end;
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < PROPERTIES_MAX; i += 8)
	{
		__u32 left = afresh(m->len) - i;
		__u64 w;

		if (i >= afresh(m->len))
			break;
		w = raw_word(m, from + i);
		if (!text_plain(w, left < 8 ? left : 8))
			return REASON_PROPERTY_TEXT;
		line_put8(m, end + i, w);
	}
	end += afresh(m->len);
	line_put8(m, end, WORD('\r', '\n', 0, 0, 0, 0, 0, 0));
	m->end = end + 2;
	return REASON_TAKEN;
}

/* Whether eight bytes, in lower case, are those that the names of W3C Trace Context begin with. */
static __always_inline bool name_traces(__u64 w)
{
	w |= LOWER;
	return w == WORD('t', 'r', 'a', 'c', 'e', 'p', 'a', 'r') || w == WORD('t', 'r', 'a', 'c', 'e', 's', 't', 'a');
}

/* Writes the name of a user property as that of its header. Returns enum reason: no header can be called so, or not this one. */
__attribute__((noinline)) int lines_name(__u32 hook, __u32 from, __u32 len)
{
	struct scratch *s = scratch_of(hook);
	struct message_properties *m;
	__u32 end;

	if (!s)
		return REASON_PROPERTY_TEXT;
	m = &s->properties;
	m->len = len;
	if (len > NAME_MAX)
		return REASON_PROPERTIES_LONG;
	if (!len || (len >= 8 && name_traces(raw_word(m, from))))
		return REASON_PROPERTY_TEXT;
	end = m->end;
	line_put8(m, end, WORD('X', '-', 'M', 'q', 't', 't', '-', 'U'));
	line_put8(m, end + 8, WORD('s', 'e', 'r', '-', 0, 0, 0, 0));
	end += 12;
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < NAME_MAX; i++)
	{
		__u8 b;

		if (i >= afresh(m->len))
			break;
		b = m->raw[(from + i) & (PROPERTIES_MAX - 1)];
		if (!token_byte(b))
			return REASON_PROPERTY_TEXT;
		m->lines[(end + i) & (LINES_MAX - 1)] = b;
	}
	end += afresh(m->len);
	line_put8(m, end, WORD(':', ' ', 0, 0, 0, 0, 0, 0));
	m->end = end + 2;
	return REASON_TAKEN;
}

/* Writes X-Mqtt-Expiry. */
static __always_inline void lines_expiry(struct message_properties *m, __u32 seconds)
{
	__u32 digits = 1, at, v = seconds;

	for (__u32 i = 0; i < 9; i++) {
		v /= 10;
		digits += v ? 1 : 0;
	}
	line_put8(m, m->end, WORD('X', '-', 'M', 'q', 't', 't', '-', 'E'));
	line_put8(m, m->end + 8, WORD('x', 'p', 'i', 'r', 'y', ':', ' ', 0));
	at = m->end + 15 + digits;
	line_put8(m, at, WORD('\r', '\n', 0, 0, 0, 0, 0, 0));
	m->end = at + 2;
	v = seconds;
	for (__u32 i = 0; i < 10; i++) {
		if (i < digits)
			m->lines[(at - 1 - i) & (LINES_MAX - 1)] = '0' + v % 10;
		v /= 10;
	}
}

/* Writes Content-Type: what the publisher says, or that the payload is text. Returns enum reason. */
static __always_inline int lines_type(__u32 hook, struct message_properties *m)
{
	static const char text[] = "text/plain; charset=utf-8\r\n";

	line_put8(m, m->end, WORD('C', 'o', 'n', 't', 'e', 'n', 't', '-'));
	line_put8(m, m->end + 8, WORD('T', 'y', 'p', 'e', ':', ' ', 0, 0));
	m->end += 14;
	if (m->read.type.len)
		return lines_text(hook, m->read.type.off, m->read.type.len);
	for (__u32 i = 0; i < sizeof(text) - 1; i++)
		m->lines[(m->end + i) & (LINES_MAX - 1)] = text[i];
	m->end += sizeof(text) - 1;
	return REASON_TAKEN;
}

/*
 * Writes the lines of the message's properties, whose length is s->draft.lines_len then. Returns enum reason.
 */
__attribute__((noinline)) int lines_write(__u32 hook)
{
	struct scratch *s = scratch_of(hook);
	struct message_properties *m;
	int reason;

	if (!s)
		return REASON_PROPERTY_TEXT;
	m = &s->properties;
	m->end = 0;
	s->draft.own_type = m->read.type.len || m->read.utf8;
	if (s->draft.own_type) {
		reason = lines_type(hook, m);
		if (reason)
			return reason;
	}
	if (m->read.expiry)
		lines_expiry(m, m->read.expiry);
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < USERS_MAX; i++)
	{
		if (i >= afresh(m->read.users))
			break;
		reason = lines_name(hook, m->read.name[i].off, m->read.name[i].len);
		if (!reason)
			reason = lines_text(hook, m->read.value[i].off, m->read.value[i].len);
		if (reason)
			return reason;
	}
	s->draft.lines_len = m->end;
	return REASON_TAKEN;
}

/*
 * Copies the lines into the request in the entry of the parked message with this number, or, if that is PARK_NONE, into the
 * buffer of the claimed slot, from offset `at` on. Returns 0.
 */
__attribute__((noinline)) int lines_copy(__u32 hook, __u32 parked, __u32 at)
{
	struct scratch *s = scratch_of(hook);
	struct request *r;

	if (!s)
		return 0;
	r = request_of(s, parked);
	if (!r)
		return 0;
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < LINES_MAX; i += 64)
	{
		if (i >= afresh(s->draft.lines_len))
			break;
		for (__u32 j = i; j < i + 64; j += 8)
			put8(r, at + j, *(const __u64 *)(s->properties.lines + j));
	}
	return 0;
}

#endif
