/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* shim.h - the observer's functions as a table, so that the same Go test drives the real ones and deliberately broken copies. */
#ifndef EPROXY_OBSERVE_SHIM_H
#define EPROXY_OBSERVE_SHIM_H

#include "http1.h"

/* What a piece of a stream contained. */
struct found {
	__u32 begun;
	__u32 ended;
	__u32 informed;
	__u32 last; /* enum stream_event that ended the scan */
	__u32 used;
	__u32 ends[64];
};

struct shim {
	void (*feed)(struct stream *s, const __u8 *b, __u32 len, int response, struct found *f);
	int (*place)(struct stream *s, __u32 seq, __u32 len, __u32 *front);
	__u32 (*bucket)(__u64 ns);
};

/* As scan_step does, with the next bytes of the packet in a buffer that goes on behind them with what must not be read. */
static void shim_feed(struct stream *s, const __u8 *b, __u32 len, int response, struct found *f)
{
	__u32 at = 0, used = 0;
	__u8 look[LINE_LOOK];

	while (at < len) {
		enum stream_event event;
		__u32 n = len - at;

		if (s->body) {
			event = stream_skip(s, n, &used);
		} else {
			memset(look, '\n', sizeof(look));
			memcpy(look, b + at, n < sizeof(look) ? n : sizeof(look));
			event = stream_line(s, look, n, response, 1, &used);
		}
		at += used;
		f->used = at;
		switch (event) {
		case STREAM_NOTHING:
			break;
		case STREAM_BEGUN:
			f->begun++;
			break;
		case STREAM_ENDED:
			if (f->ended < 64)
				f->ends[f->ended] = at;
			f->ended++;
			break;
		case STREAM_INFORMED:
			f->informed++;
			break;
		default:
			f->last = event;
			return;
		}
	}
}

static int shim_place(struct stream *s, __u32 seq, __u32 len, __u32 *front)
{
	return stream_place(s, seq, len, front);
}

static __u32 shim_bucket(__u64 ns)
{
	return observe_bucket(ns);
}

static const struct shim shim_table = {
	.feed = shim_feed,
	.place = shim_place,
	.bucket = shim_bucket,
};

#endif
