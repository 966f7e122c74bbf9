/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * parking.h - the order of messages that wait for a slot. No kernel context:
 * compiles natively, tested against a model in bpf/native. All of it runs under the
 * lock of struct parking.
 *
 * A queue's clients have their turn one after another, however many messages each of them
 * has; a client's own messages stay in order. A message can only be sent to a pod of its
 * client's address family, and only from a packet of that family: so each family has its
 * own turns, and none waits for the places of the other. No queue may hold more than is still free
 * for all, and no client more than its queue could still take: so whoever comes
 * later finds room, too, and one alone may have about a third of the entries. What the function's queue may
 * hold on both paths together bounds it as well: userspace says what is left of that. Everything is
 * linked by numbers, so that nothing has to be looked up under the lock.
 */
#ifndef EPROXY_PARKING_H
#define EPROXY_PARKING_H

#include "common.h"

#define PARK_NONE 0
#define PARK_IPV6 (1u << 31) /* struct park_client, client */

/* Where the message of a line is that was popped for a pod (struct park_client, flight). */
enum line_flight {
	FLIGHT_NONE = 0,    /* there is none */
	FLIGHT_POD = 1,	    /* a pod has it */
	FLIGHT_PLACING = 2, /* who has popped it looks for a slot: it may come back */
	FLIGHT_LANDED = 3,  /* that, and the pod's answer has come already */
};

/* The family that a client's entry is of: 0 is IPv4, 1 is IPv6. */
static __always_inline __u32 park_family(__u32 client)
{
	return client >> 31;
}

/* What a client's entry is known by. */
static __always_inline __u32 park_name(__u32 conn, bool ipv6)
{
	return ipv6 ? conn | PARK_IPV6 : conn;
}

static __always_inline struct park_client *park_client(struct parking *p, __u32 k)
{
	return &p->clients[k & (PARK_CLIENTS - 1)];
}

/*
 * Whether a message of a line may still come in front of those that wait: one that was popped and not placed yet, or one that was admitted
 * and is not among them yet, where those before it have left.
 */
static __always_inline bool line_moving(const struct park_client *c)
{
	return c->flight >= FLIGHT_PLACING || (c->pending && c->count <= c->ahead);
}

/* Whether a line's messages wait for one that is on its way: with a pod, with userspace, or just being admitted in front of them. */
static __always_inline bool line_busy(const struct park_client *c)
{
	return c->flight || c->held || line_moving(c);
}

/* The list of its queue that an entry with messages is on: that of its family's turns, or behind these that of its busy lines. */
static __always_inline __u32 park_list(const struct park_client *c)
{
	return park_family(c->client) | (line_busy(c) ? PARK_FAMILIES : 0);
}

static __always_inline __u16 *park_next(struct parking *p, __u32 n)
{
	return &p->next[n & (PARKED_MAX - 1)];
}

static __always_inline __u16 *park_previous(struct parking *p, __u32 n)
{
	return &p->previous[n & (PARKED_MAX - 1)];
}

static __always_inline __u16 *park_bucket(struct queue *q, __u32 client)
{
	return &q->bucket[client & (PARK_BUCKETS - 1)];
}

static __always_inline __u16 *line_bucket(struct parking *p, __u64 line)
{
	return &p->line_bucket[(line ^ line >> 32) & (LINE_BUCKETS - 1)];
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

/* A number for a message of the queue, and the second half of its ce-id; PARK_NONE if there is none with memory. */
static __always_inline __u32 parking_number(struct parking *p, struct queue *q, __u64 *id)
{
	__u32 n = p->free;

	if (n)
		p->free = *park_next(p, n);
	else if (p->fresh + 1 < p->limit && p->fresh + 1 < PARKED_MAX)
		n = ++p->fresh;
	else
		return PARK_NONE;
	p->used++;
	q->count++;
	*id = ++q->ids;
	p->order[n & (PARKED_MAX - 1)] = q->ids;
	return n;
}

/*
 * A number for a message of this client, which counts as the queue's from now on, and
 * the second half of its ce-id. PARK_NONE if there is no room.
 */
static __always_inline __u32 parking_admit(struct parking *p, struct queue *q, __u32 client, __u64 *id)
{
	__u32 free = PARKED_MAX - 1 - p->used, k;

	if (q->count >= free || q->count >= *(volatile __u32 *)&q->most)
		return PARK_NONE;
	k = parking_find(p, q, client);
	if (k && park_client(p, k)->count >= free - q->count)
		return PARK_NONE;
	return parking_number(p, q, id);
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

/* The client's turn comes next (front), or when all others have had theirs. It has none now. Of a busy line: the same in that list. */
static __always_inline void parking_turn(struct parking *p, struct queue *q, __u32 k, bool front)
{
	struct park_client *c = park_client(p, k);
	__u32 f = park_list(c) & (PARK_LISTS - 1), old;

	c->turn = c->turn_before = PARK_NONE;
	if (front) {
		old = q->first_turn[f];
		c->turn = old;
		q->first_turn[f] = k;
		if (old)
			park_client(p, old)->turn_before = k;
		else
			q->last_turn[f] = k;
	} else {
		old = q->last_turn[f];
		c->turn_before = old;
		q->last_turn[f] = k;
		if (old)
			park_client(p, old)->turn = k;
		else
			q->first_turn[f] = k;
	}
}

/* The client has no turn any more on the list that it is on. */
static __always_inline void parking_turn_over(struct parking *p, struct queue *q, __u32 k, __u32 list)
{
	struct park_client *c = park_client(p, k);
	__u32 f = list & (PARK_LISTS - 1);

	if (c->turn_before)
		park_client(p, c->turn_before)->turn = c->turn;
	else
		q->first_turn[f] = c->turn;
	if (c->turn)
		park_client(p, c->turn)->turn_before = c->turn_before;
	else
		q->last_turn[f] = c->turn_before;
}

/* A new entry, of a client or a line, in a bucket. There is one for each message and each line, so that one is always free. */
static __always_inline __u32 parking_entry(struct parking *p, __u16 *bucket)
{
	struct park_client *c;
	__u32 k = p->clients_free;

	if (k)
		p->clients_free = park_client(p, k)->turn;
	else
		k = ++p->clients_fresh & (PARK_CLIENTS - 1);
	c = park_client(p, k);
	c->first = c->last = PARK_NONE;
	c->count = 0;
	c->line = 0;
	c->pending = c->held = c->ahead = 0;
	c->flight = c->watched = 0;
	c->before = PARK_NONE;
	c->after = *bucket;
	if (c->after)
		park_client(p, c->after)->before = k;
	*bucket = k;
	return k;
}

/* An entry for a client that has no messages in the queue. */
static __always_inline __u32 parking_enter(struct parking *p, struct queue *q, __u32 client, bool front)
{
	__u32 k = parking_entry(p, park_bucket(q, client));

	park_client(p, k)->client = client;
	parking_turn(p, q, k, front);
	return k;
}

/* Whether message n was admitted later than message `than`. */
static __always_inline bool park_younger(const struct parking *p, __u32 n, __u32 than)
{
	return (__s32)(p->order[n & (PARKED_MAX - 1)] - p->order[than & (PARKED_MAX - 1)]) > 0;
}

/*
 * Puts a message among its client's others, by age: of two processors the one with the younger
 * message may be here first. It is looked for from the oldest one on (front), or from the youngest one back:
 * where it is as a rule. Where so many are out of order that the look ends it stands where that was.
 */
static __always_inline void parking_insert(struct parking *p, struct park_client *c, __u32 n, bool front)
{
	__u32 before = front ? PARK_NONE : c->last, after = front ? c->first : PARK_NONE;

	repeat(i, TURNS_MAX) {
		if (front) {
			if (!after || !park_younger(p, n, after))
				break;
			before = after;
			after = *park_next(p, after);
		} else {
			if (!before || park_younger(p, n, before))
				break;
			after = before;
			before = *park_previous(p, before);
		}
	}
	*park_next(p, n) = after;
	*park_previous(p, n) = before;
	if (before)
		*park_next(p, before) = n;
	else
		c->first = n;
	if (after)
		*park_previous(p, after) = n;
	else
		c->last = n;
	c->count++;
}

/* Puts an admitted message among its client's others: it is the youngest, as a rule. */
static __always_inline void parking_push(struct parking *p, struct queue *q, __u32 client, __u32 n, __u32 now_ms)
{
	__u32 k = parking_find(p, q, client);

	if (!k)
		k = parking_enter(p, q, client, false);
	p->since_ms[n & (PARKED_MAX - 1)] = now_ms;
	parking_insert(p, park_client(p, k), n, false);
}

/* Puts a message that was popped back: it is its client's oldest, as a rule, and it is that client's turn again. */
static __always_inline void parking_push_back(struct parking *p, struct queue *q, __u32 client, __u32 n)
{
	__u32 k = parking_find(p, q, client);

	if (k) {
		parking_turn_over(p, q, k, park_family(client));
		parking_turn(p, q, k, true);
	} else {
		k = parking_enter(p, q, client, true);
	}
	parking_insert(p, park_client(p, k), n, true);
	q->count++;
	q->popped[park_family(client)]--;
}

/* An entry of this bucket that has no messages any more, and no turn, is free. */
static __always_inline void parking_leave(struct parking *p, __u16 *bucket, __u32 k)
{
	struct park_client *c = park_client(p, k);

	if (c->before)
		park_client(p, c->before)->after = c->after;
	else
		*bucket = c->after;
	if (c->after)
		park_client(p, c->after)->before = c->before;
	c->turn = p->clients_free;
	p->clients_free = k;
}

/* A line that has no messages, and is not busy, is forgotten. */
static __always_inline void line_leave(struct parking *p, __u32 k)
{
	parking_leave(p, line_bucket(p, park_client(p, k)->line), k);
	p->lines--;
}

/* The message of this family that parking_pop would return now. */
static __always_inline __u32 parking_peek(struct parking *p, const struct queue *q, __u32 family)
{
	__u32 k = q->first_turn[family & (PARK_FAMILIES - 1)];

	return k ? park_client(p, k)->first : PARK_NONE;
}

/*
 * The oldest message of the client on this list whose turn it is; PARK_NONE if none waits. It keeps its number
 * until parking_free. hand: userspace takes it, and not a pod: of a line those behind it wait for that. Else who has it gives
 * it a slot (line_placed), or puts it back.
 */
static __always_inline __u32 parking_pop(struct parking *p, struct queue *q, __u32 list, bool hand)
{
	struct park_client *c;
	__u32 k, n, f;

	opaque(list); /* who has compared it needs no mask, but the verifier does not see that */
	f = list & (PARK_LISTS - 1);
	k = q->first_turn[f];
	if (!k)
		return PARK_NONE;
	parking_turn_over(p, q, k, f);
	c = park_client(p, k);
	n = c->first;
	c->first = *park_next(p, n);
	c->count--;
	if (c->line && hand)
		c->held++;
	else if (c->line)
		c->flight = FLIGHT_PLACING;
	if (c->first) {
		*park_previous(p, c->first) = PARK_NONE;
		parking_turn(p, q, k, false);
	} else if (c->line) {
		c->last = PARK_NONE; /* the line goes on */
	} else {
		parking_leave(p, park_bucket(q, c->client), k);
	}
	q->count--;
	q->popped[f & (PARK_FAMILIES - 1)]++;
	return n;
}

/*
 * Whether a client on this list has a message that was parked no later than before_ms, and is in front of its others; its turn
 * is the next one then. Looks at some clients, whose turns are over: asked again it looks at others.
 */
static __always_inline bool parking_old(struct parking *p, struct queue *q, __u32 list, __u32 before_ms)
{
	__u32 f = list & (PARK_LISTS - 1);
	bool old = false;

	repeat(i, TURNS_MAX) {
		__u32 k = q->first_turn[f], n = park_client(p, k)->first;

		if (!k)
			break;
		if (!line_moving(park_client(p, k)) && (__s32)(p->since_ms[n & (PARKED_MAX - 1)] - before_ms) <= 0) {
			old = true;
			break;
		}
		parking_turn_over(p, q, k, f);
		parking_turn(p, q, k, false);
	}
	return old;
}

#endif
