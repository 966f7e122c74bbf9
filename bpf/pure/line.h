/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * line.h - the messages of one client on one ordered route: one at a time is on its way, and the others wait for it
 * among those that wait for a slot (parking.h). No kernel context: compiles natively, tested against a model in
 * bpf/native. All of it runs under the lock of struct parking.
 *
 * A line is known by its name, a hash of the client and the route, whatever connection the messages come by. It is busy while a pod has
 * a message of it (flight), or userspace is in front in it: with messages that it took over, or that it got
 * itself (held). Then none of those behind is sent. Two processors may admit messages of one line in order and put them among
 * the others in another: until all are there (pending) only those are sent that were there before.
 */
#ifndef EPROXY_LINE_H
#define EPROXY_LINE_H

#include "parking.h"

/* Lines with the same bucket that are looked at: where there are more, userspace has the messages. */
#define LINE_LOOK TURNS_MAX

/* Userspace holds no line more where there are so many: the others are for messages that the programs have. */
#define LINES_HELD (PARK_LINES / 2)

/* The number of the line of this name, PARK_NONE if it is empty; *lost: the look has ended before that was known. */
static __always_inline __u32 line_find(struct parking *p, __u64 name, bool *lost)
{
	__u32 k = *line_bucket(p, name), found = PARK_NONE;

	repeat(i, LINE_LOOK) {
		if (!k)
			break;
		if (park_client(p, k)->line == name) {
			found = k;
			break;
		}
		k = park_client(p, k)->after;
	}
	*lost = k && !found;
	return found;
}

/* The line of this name, made if it is empty. PARK_NONE: there is no room. */
static __always_inline __u32 line_enter(struct parking *p, __u64 name)
{
	bool lost;
	__u32 k = line_find(p, name, &lost);
	struct park_client *c;

	if (k)
		return k;
	if (lost || p->lines >= PARK_LINES)
		return PARK_NONE;
	p->lines++;
	k = parking_entry(p, line_bucket(p, name));
	c = park_client(p, k);
	c->line = name;
	c->client = 0;
	c->queue = NO_INDEX;
	return k;
}

/* The list of its queue that a line is on; PARK_LISTS: it has no messages, and is on none. */
static __always_inline __u32 line_list(const struct park_client *c)
{
	return c->first ? park_list(c) : PARK_LISTS;
}

/*
 * Behind a change of what a line has: it is on the list where it belongs, or left if it is empty. On the list where it was it keeps
 * its place, else its turn comes last, or next (front). was: line_list before the change.
 */
static __always_inline void line_settle(struct parking *p, struct queue *q, __u32 k, __u32 was, bool front)
{
	struct park_client *c = park_client(p, k);
	__u32 now = line_list(c);

	if (now != was || front) {
		if (was < PARK_LISTS)
			parking_turn_over(p, q, k, was);
		if (now < PARK_LISTS)
			parking_turn(p, q, k, front);
	}
	if (now == PARK_LISTS && !line_busy(c))
		line_leave(p, k);
}

/*
 * parking_admit for a message of a line, whose number is *line then. A line's messages wait in one queue, for one address
 * family: where its route has another function now, or its client has come back by the other family, userspace has
 * the message, until none waits.
 */
static __always_inline __u32 line_admit(struct parking *p, struct queue *q, __u32 queue, __u32 family, __u64 name,
					__u32 *line, __u64 *id)
{
	__u32 free = PARKED_MAX - 1 - p->used, client = family ? PARK_IPV6 : 0, k, n;
	struct park_client *c;

	if (q->count >= free || q->count >= *(volatile __u32 *)&q->most)
		return PARK_NONE;
	k = line_enter(p, name);
	if (!k)
		return PARK_NONE;
	c = park_client(p, k);
	if (!c->first && !c->pending && !c->flight) {
		c->queue = queue;
		c->client = client;
	}
	/* what comes late must be found its place: parking_insert looks at so many */
	n = c->pending + c->ahead < TURNS_MAX && c->queue == queue && c->client == client && c->count < free - q->count
		    ? parking_number(p, q, id)
		    : PARK_NONE;
	if (n) /* unless it is empty its messages are older: it keeps its turn */
		c->pending++;
	if (!c->first)
		line_settle(p, q, k, PARK_LISTS, false);
	*line = k;
	return n;
}

/* One that was pending is put among the others (put 1), or was not taken after all (0). */
static __always_inline void line_came(struct park_client *c, __u32 put)
{
	c->pending--;
	c->ahead = c->pending ? c->ahead + put : 0;
}

/* Takes back what line_admit did. Returns whether userspace is to be told. */
static __always_inline bool line_cancel(struct parking *p, struct queue *q, __u32 k, __u32 n)
{
	struct park_client *c = park_client(p, k);
	__u32 was = line_list(c);
	bool tell;

	parking_cancel(p, q, n);
	line_came(c, 0);
	tell = c->watched && !c->flight;
	if (tell)
		c->watched = 0;
	line_settle(p, q, k, was, false);
	return tell;
}

/* Puts an admitted message among its line's others. */
static __always_inline void line_push(struct parking *p, struct queue *q, __u32 k, __u32 n, __u32 now_ms)
{
	struct park_client *c = park_client(p, k);
	__u32 was = line_list(c);

	line_came(c, 1);
	p->since_ms[n & (PARKED_MAX - 1)] = now_ms;
	parking_insert(p, c, n, false);
	line_settle(p, q, k, was, false);
}

/* Puts a message that was popped for a pod back: it is the line's oldest, whose turn it is again. */
static __always_inline void line_push_back(struct parking *p, struct queue *q, __u32 k, __u32 n)
{
	struct park_client *c = park_client(p, k);
	__u32 was = line_list(c);

	c->flight = 0;
	parking_insert(p, c, n, true);
	line_settle(p, q, k, was, true);
	q->count++;
	q->popped[park_family(c->client)]--;
}

/* No pod has a message of the line any more. Returns whether userspace is to be told. */
static __always_inline bool line_landed(struct parking *p, struct queue *q, __u32 k)
{
	struct park_client *c = park_client(p, k);
	__u32 was = line_list(c);
	bool tell = c->watched;

	c->flight = c->watched = 0;
	line_settle(p, q, k, was, false);
	return tell;
}

/* The message of the line that a pod had is answered. Returns whether userspace is to be told. */
static __always_inline bool line_answered(struct parking *p, struct queue *q, __u32 k)
{
	struct park_client *c = park_client(p, k);

	if (c->flight == FLIGHT_PLACING) { /* another processor is about to note that it has its slot */
		c->flight = FLIGHT_LANDED;
		return false;
	}
	return line_landed(p, q, k);
}

/* A message that was popped for a pod has its slot. Returns whether userspace is to be told. */
static __always_inline bool line_placed(struct parking *p, struct queue *q, __u32 k)
{
	struct park_client *c = park_client(p, k);

	if (c->flight == FLIGHT_LANDED)
		return line_landed(p, q, k);
	c->flight = FLIGHT_POD;
	return false;
}

/* The message of the line that a pod had is userspace's, which holds the line until it has finished it. */
static __always_inline void line_hand(struct parking *p, __u32 k)
{
	struct park_client *c = park_client(p, k);

	c->flight = 0;
	c->held++;
}

/*
 * Userspace has messages of this line, and is in front of all that the programs take from now on. Returns the line's number; PARK_NONE:
 * there are some of the programs' in front (*behind; userspace is told when that may have changed), or there is no room.
 */
static __always_inline __u32 line_hold(struct parking *p, __u64 name, bool *behind)
{
	bool lost;
	__u32 k = line_find(p, name, &lost);

	*behind = k || lost;
	if (k)
		park_client(p, k)->watched = 1;
	if (*behind || p->lines >= LINES_HELD)
		return PARK_NONE;
	k = line_enter(p, name);
	if (k)
		park_client(p, k)->held = 1;
	return k;
}

/* How many times userspace holds the line. *flight: a pod has a message of it, and userspace is told when it has none any more. */
static __always_inline __u32 line_watch(struct parking *p, __u64 name, bool *flight)
{
	bool lost;
	__u32 k = line_find(p, name, &lost);
	struct park_client *c = park_client(p, k);

	if (!k)
		return 0;
	*flight = c->flight;
	if (c->flight)
		c->watched = 1;
	return c->held;
}

/*
 * Userspace has finished a message of the line, or all that line_hold was for. Returns whether some wait that may go on. q: where;
 * NULL: none did ever.
 */
static __always_inline bool line_release(struct parking *p, struct queue *q, __u32 k)
{
	struct park_client *c = park_client(p, k);
	__u32 was = line_list(c);

	if (!q) {
		if (!--c->held)
			line_leave(p, k);
		return false;
	}
	c->held--;
	line_settle(p, q, k, was, false);
	return c->first && !line_busy(c);
}

#endif
