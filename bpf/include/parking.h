/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * parking.h - the order of messages that wait for a slot. No kernel context:
 * compiles natively, tested against a model in bpf/native. All of it runs under the
 * lock of struct parking.
 *
 * A queue's clients have their turn one after another, however many messages each of them
 * has; a client's own messages stay in order. No queue may hold more than is still free
 * for all, and no client more than its queue could still take: so whoever comes
 * later finds room, too, and one alone may have about a third of the entries. What the function's queue may
 * hold on both paths together bounds it as well: userspace says what is left of that. Everything is
 * linked by numbers, so that nothing has to be looked up under the lock.
 */
#ifndef EPROXY_PARKING_H
#define EPROXY_PARKING_H

#include "common.h"

#define PARK_NONE 0

static __always_inline struct park_client *park_client(struct parking *p, __u32 k)
{
	return &p->clients[k & (PARKED_MAX - 1)];
}

static __always_inline __u16 *park_next(struct parking *p, __u32 n)
{
	return &p->next[n & (PARKED_MAX - 1)];
}

static __always_inline __u16 *park_bucket(struct queue *q, __u32 client)
{
	return &q->bucket[client & (PARK_BUCKETS - 1)];
}

/*
 * The entry of a client that has messages in the queue, or PARK_NONE. Where very many share a
 * bucket the look ends; one that is not found gets a second entry, and with it a second turn.
 */
static __always_inline __u32 parking_find(struct parking *p, struct queue *q, __u32 client)
{
	__u32 k = *park_bucket(q, client), found = PARK_NONE;

	repeat(i, TURNS_MAX) {
		if (!k)
			break;
		if (park_client(p, k)->client == client) {
			found = k;
			break;
		}
		k = park_client(p, k)->after;
	}
	return found;
}

/*
 * A number for a message of this client, which counts as the queue's from now on, and
 * the second half of its ce-id. PARK_NONE if there is no room.
 */
static __always_inline __u32 parking_admit(struct parking *p, struct queue *q, __u32 client, __u32 *id)
{
	__u32 free = PARKED_MAX - 1 - p->used, k, n;

	if (q->count >= free || q->count >= *(volatile __u32 *)&q->most)
		return PARK_NONE;
	k = parking_find(p, q, client);
	if (k && park_client(p, k)->count >= free - q->count)
		return PARK_NONE;
	n = p->free;
	if (n)
		p->free = *park_next(p, n);
	else if (p->fresh + 1 < p->limit && p->fresh + 1 < PARKED_MAX)
		n = ++p->fresh;
	else
		return PARK_NONE;
	p->used++;
	q->count++;
	*id = ++q->ids;
	return n;
}

/* The number is free again; its message is in no queue. */
static __always_inline void parking_free(struct parking *p, __u32 n)
{
	*park_next(p, n) = p->free;
	p->free = n;
	p->used--;
}

/* Takes back what parking_admit did. */
static __always_inline void parking_cancel(struct parking *p, struct queue *q, __u32 n)
{
	q->count--;
	parking_free(p, n);
}

/* The client's turn comes next (front), or when all others have had theirs. */
static __always_inline void parking_turn(struct parking *p, struct queue *q, __u32 k, bool front)
{
	if (front) {
		park_client(p, k)->turn = q->first_turn;
		q->first_turn = k;
		if (!q->last_turn)
			q->last_turn = k;
		return;
	}
	park_client(p, k)->turn = PARK_NONE;
	if (q->last_turn)
		park_client(p, q->last_turn)->turn = k;
	else
		q->first_turn = k;
	q->last_turn = k;
}

/* An entry for a client that has no messages in the queue. There are as many as messages, so that one is always free. */
static __always_inline __u32 parking_enter(struct parking *p, struct queue *q, __u32 client, bool front)
{
	__u16 *bucket = park_bucket(q, client);
	struct park_client *c;
	__u32 k = p->clients_free;

	if (k)
		p->clients_free = park_client(p, k)->turn;
	else
		k = ++p->clients_fresh & (PARKED_MAX - 1);
	c = park_client(p, k);
	c->client = client;
	c->first = c->last = PARK_NONE;
	c->count = 0;
	c->before = PARK_NONE;
	c->after = *bucket;
	if (c->after)
		park_client(p, c->after)->before = k;
	*bucket = k;
	parking_turn(p, q, k, front);
	return k;
}

/* Puts an admitted message behind its client's others. */
static __always_inline void parking_push(struct parking *p, struct queue *q, __u32 client, __u32 n, __u32 now_ms)
{
	__u32 k = parking_find(p, q, client);
	struct park_client *c;

	if (!k)
		k = parking_enter(p, q, client, false);
	c = park_client(p, k);
	*park_next(p, n) = PARK_NONE;
	p->since_ms[n & (PARKED_MAX - 1)] = now_ms;
	if (c->last)
		*park_next(p, c->last) = n;
	else
		c->first = n;
	c->last = n;
	c->count++;
}

/* Puts a message that was popped back in front of its client's others. */
static __always_inline void parking_push_back(struct parking *p, struct queue *q, __u32 client, __u32 n)
{
	__u32 k = parking_find(p, q, client);
	struct park_client *c;

	if (!k)
		k = parking_enter(p, q, client, true);
	c = park_client(p, k);
	*park_next(p, n) = c->first;
	c->first = n;
	if (!c->last)
		c->last = n;
	c->count++;
	q->count++;
	q->popped--;
}

/* A client that has no messages in the queue any more, and no turn. */
static __always_inline void parking_leave(struct parking *p, struct queue *q, __u32 k)
{
	struct park_client *c = park_client(p, k);

	if (c->before)
		park_client(p, c->before)->after = c->after;
	else
		*park_bucket(q, c->client) = c->after;
	if (c->after)
		park_client(p, c->after)->before = c->before;
	c->turn = p->clients_free;
	p->clients_free = k;
}

/* The client whose turn it is, which has it no more; there is one. */
static __always_inline __u32 parking_next(struct parking *p, struct queue *q)
{
	__u32 k = q->first_turn;

	q->first_turn = park_client(p, k)->turn;
	if (!q->first_turn)
		q->last_turn = PARK_NONE;
	return k;
}

/* The message that parking_pop would return now. */
static __always_inline __u32 parking_peek(struct parking *p, const struct queue *q)
{
	return q->first_turn ? park_client(p, q->first_turn)->first : PARK_NONE;
}

/* The oldest message of the client whose turn it is; PARK_NONE if none waits. It keeps its number until parking_free. */
static __always_inline __u32 parking_pop(struct parking *p, struct queue *q)
{
	struct park_client *c;
	__u32 k, n;

	if (!q->first_turn)
		return PARK_NONE;
	k = parking_next(p, q);
	c = park_client(p, k);
	n = c->first;
	c->first = *park_next(p, n);
	c->count--;
	if (c->first)
		parking_turn(p, q, k, false);
	else
		parking_leave(p, q, k);
	q->count--;
	q->popped++;
	return n;
}

/*
 * Whether a client has a message that was parked no later than before_ms; its turn is the next
 * one then. Looks at some clients, whose turns are over: asked again it looks at others.
 */
static __always_inline bool parking_old(struct parking *p, struct queue *q, __u32 before_ms)
{
	bool old = false;

	repeat(i, TURNS_MAX) {
		__u32 k = q->first_turn, n = park_client(p, k)->first;

		if (!k)
			break;
		if ((__s32)(p->since_ms[n & (PARKED_MAX - 1)] - before_ms) <= 0) {
			old = true;
			break;
		}
		parking_turn(p, q, parking_next(p, q), false);
	}
	return old;
}

#endif
