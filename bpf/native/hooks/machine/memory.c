/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * memory.c - the maps. All lie in one arena, so that a state is saved and
 * restored at once; first what several processors change, which is what
 * points are made of.
 */
#include <stdio.h>
#include <stdlib.h>

#include "inside.h"

#define ARENA (4u << 20)

struct map {
	const char *name;
	__u32 entries; /* in this machine */
	bool shared;   /* changes while programs run */
	bool bulk;     /* neighbouring accesses of one kind are one point */
	__u32 type;
	__u32 key_size;
	__u32 value_size;
	__u32 stride;
	__u8 *used, *keys, *values;
};

/* Shared ones first. A map that is not named here is an array of few entries. */
static struct map maps[32] = {
	{ .name = "flows", .entries = 16, .shared = true },
	{ .name = "hints", .entries = HINTS, .shared = true },
	{ .name = "conns", .entries = 12, .shared = true },
	{ .name = "slots", .entries = 4, .shared = true },
	{ .name = "pods", .entries = 2, .shared = true },
	{ .name = "pod_socks", .entries = 4, .shared = true },
	{ .name = "settings", .entries = 1, .shared = true },
	{ .name = "attention", .entries = 1, .shared = true },
	{ .name = "sweepers", .entries = 1, .shared = true },
	{ .name = "queues", .entries = 1, .shared = true },
	{ .name = "parkings", .entries = 1, .shared = true },
	{ .name = "id_tables", .entries = 2, .shared = true },
	{ .name = "alias_tables", .entries = 8, .shared = true },
	{ .name = "asleep", .entries = 2 },
	{ .name = "devices", .entries = 8, .shared = true, .bulk = true },
	{ .name = "requests", .entries = 32, .shared = true, .bulk = true },
	{ .name = "parked", .entries = 8, .shared = true, .bulk = true },
	{ .name = "keeps", .entries = 1, .shared = true, .bulk = true },
	{ .name = "grants", .entries = 8 },
	{ .name = "edges", .entries = 8 },
	{ .name = "nodes", .entries = 8 },
	{ .name = "routes", .entries = 2 },
	{ .name = "functions", .entries = 2 },
	{ .name = "listeners", .entries = 2 },
	{ .name = "scratches", .entries = HOOK_COUNT + 1 },
	{ .name = "reasons", .entries = 256 * HOOK_COUNT },
	{ .name = "route_counters", .entries = 2 },
	{ .name = "pod_counters", .entries = 2 },
	{ .name = "tracings", .entries = 1 },
	{ .name = "traced", .entries = 1 },
};

static __u8 arena[ARENA] __attribute__((aligned(64)));
static __u8 saved[ARENA];
static size_t used, kept, shared_end, bulk_begin;

static __u8 *take(size_t n)
{
	__u8 *p = arena + used;

	used += (n + 31) & ~(size_t)31;
	if (used > sizeof(arena)) {
		fprintf(stderr, "machine: arena too small\n");
		abort();
	}
	return p;
}

static bool hashed(__u32 type)
{
	return type == BPF_MAP_TYPE_HASH || type == BPF_MAP_TYPE_LRU_HASH || type == BPF_MAP_TYPE_SOCKHASH;
}

static void map_place(struct map *m, __u32 type, __u32 key_size, __u32 value_size)
{
	__u32 copies = type == BPF_MAP_TYPE_PERCPU_ARRAY ? TASKS : 1;

	m->type = type;
	m->key_size = key_size;
	m->value_size = value_size;
	m->stride = value_size;
	if (type == BPF_MAP_TYPE_SOCKHASH)
		m->stride = sizeof(struct bpf_sock);
	if (hashed(type)) {
		m->stride = (m->stride + 7) & ~7u;
		m->used = take(m->entries);
		m->keys = take((size_t)m->entries * key_size);
	}
	m->values = take((size_t)m->entries * m->stride * copies);
}

/* The shared maps lie at the front, whenever they are first used. */
static void place(const char *name, __u32 type, __u32 key_size, __u32 value_size)
{
	for (struct map *m = maps; m->name; m++)
		if (!strcmp(m->name, name))
			map_place(m, type, key_size, value_size);
}

void memory_init(void)
{
	place("flows", BPF_MAP_TYPE_HASH, sizeof(struct tuple), 4);
	place("hints", BPF_MAP_TYPE_ARRAY, 4, 8);
	place("conns", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct conn));
	place("slots", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct slot));
	place("pods", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct pod));
	place("pod_socks", BPF_MAP_TYPE_SOCKHASH, 4, 8);
	place("settings", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct globals));
	place("attention", BPF_MAP_TYPE_ARRAY, 4, 8);
	place("sweepers", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct sweeper));
	place("queues", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct queue));
	place("parkings", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct parking));
	place("id_tables", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct id_table));
	place("alias_tables", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct alias_table));
	bulk_begin = used;
	place("devices", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct device));
	place("requests", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct request));
	place("parked", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct parked_message));
	place("keeps", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct kept));
	shared_end = used;
	place("grants", BPF_MAP_TYPE_LRU_HASH, sizeof(struct grant_key), 4);
	place("edges", BPF_MAP_TYPE_HASH, sizeof(struct edge_key), 4);
	place("nodes", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct node));
	place("routes", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct route));
	place("functions", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct function));
}

static struct map *map_named(const char *name)
{
	struct map *m;

	for (m = maps; m->name; m++)
		if (!strcmp(m->name, name))
			return m;
	m->name = name;
	m->entries = 64;
	return m;
}

void *memory_of(const char *name, __u32 index)
{
	struct map *m = map_named(name);

	return m->values + (size_t)index * m->stride;
}

bool memory_shared(const void *p)
{
	return (size_t)((const __u8 *)p - arena) < shared_end;
}

bool memory_bulk(const void *p, __u32 *which)
{
	if ((size_t)((const __u8 *)p - arena) < bulk_begin)
		return false;
	*which = (const __u8 *)p >= (const __u8 *)machine.requests ? 2
								   : 1; /* what is parked or kept counts as requests */
	return true;
}

static void *hash_find(struct map *m, const void *key)
{
	for (__u32 i = 0; i < m->entries; i++)
		if (m->used[i] && !memcmp(m->keys + i * m->key_size, key, m->key_size))
			return m->values + i * m->stride;
	return NULL;
}

/* As the kernel does: a new element takes the old one's place, whose memory is free for others at once. */
static void *hash_put(struct map *m, const void *key)
{
	__u8 *old = hash_find(m, key);

	for (__u32 i = 0; i < m->entries; i++) {
		if (m->used[i])
			continue;
		m->used[i] = 1;
		memcpy(m->keys + i * m->key_size, key, m->key_size);
		if (old)
			m->used[(old - m->values) / m->stride] = 0;
		return m->values + i * m->stride;
	}
	fprintf(stderr, "machine: %s is full\n", m->name);
	abort();
}

/* An element that is gone keeps its value until another one takes its memory. */
static void hash_delete(struct map *m, const void *key)
{
	__u8 *old = hash_find(m, key);

	if (old)
		m->used[(old - m->values) / m->stride] = 0;
}

void *machine_lookup(void *variable, const char *name, __u32 type, __u32 entries, __u32 key_size, __u32 value_size,
		     const void *key)
{
	struct map *m = *(struct map **)variable;
	__u32 index;
	__u8 *p;

	if (!m) {
		m = map_named(name + 1); /* "&flows" */
		if (!m->values)
			map_place(m, type, key_size, value_size);
		if (m->type != type || m->value_size != value_size) {
			fprintf(stderr, "machine: %s is not what memory.c says\n", name);
			abort();
		}
		*(struct map **)variable = m;
	}
	if (hashed(type)) {
		if (m->shared)
			point(0);
		p = hash_find(m, key);
		if (p && type == BPF_MAP_TYPE_SOCKHASH && current)
			current->references++;
		return p;
	}
	memcpy(&index, key, 4);
	if (index >= m->entries)
		return NULL;
	if (type == BPF_MAP_TYPE_PERCPU_ARRAY && current)
		index += current->id * m->entries;
	return m->values + (size_t)index * m->stride;
}

__u32 *flow_find(const struct tuple *key)
{
	return hash_find(map_named("flows"), key);
}

void flow_delete(const struct tuple *key)
{
	hash_delete(map_named("flows"), key);
}

static void flow_put(const struct tuple *key, __u32 index)
{
	*(__u32 *)hash_put(map_named("flows"), key) = index;
}

static void edge_put(const struct edge_key *key, __u32 node)
{
	*(__u32 *)hash_put(map_named("edges"), key) = node;
}

void socket_set(__u32 index, __u32 state)
{
	struct map *m = map_named("pod_socks");
	struct bpf_sock *sk = hash_find(m, &index);

	if (!state) {
		hash_delete(m, &index);
		return;
	}
	if (!sk)
		sk = hash_put(m, &index);
	sk->state = state;
}

static void clear(void)
{
	memset(arena, 0, used);
}

static void save(void)
{
	kept = used;
	memcpy(saved, arena, kept);
}

static void restore(void)
{
	memcpy(arena, saved, kept);
	memset(arena + kept, 0, used - kept);
}

static __u64 reason(__u32 hook, __u32 which)
{
	struct map *m = map_named("reasons");
	__u64 n = 0;

	for (__u32 cpu = 0; m->values && cpu < TASKS; cpu++)
		n += ((__u64 *)m->values)[cpu * m->entries + hook * 256 + which];
	return n;
}

extern void machine_run(void);

/* The table that the tests use. */
struct machine *eproxy_machine(void)
{
	memory_init();
	machine.conns = memory_of("conns", 0);
	machine.devices = memory_of("devices", 0);
	machine.slots = memory_of("slots", 0);
	machine.pods = memory_of("pods", 0);
	machine.requests = memory_of("requests", 0);
	machine.functions = memory_of("functions", 0);
	machine.routes = memory_of("routes", 0);
	machine.nodes = memory_of("nodes", 0);
	machine.settings = memory_of("settings", 0);
	machine.attention = memory_of("attention", 0);
	machine.sweeper = memory_of("sweepers", 0);
	machine.parking = memory_of("parkings", 0);
	machine.queues = memory_of("queues", 0);
	machine.parked = memory_of("parked", 0);
	machine.kept = memory_of("keeps", 0);
	machine.flow = flow_put;
	machine.edge = edge_put;
	machine.clear = clear;
	machine.save = save;
	machine.restore = restore;
	machine.run = machine_run;
	machine.shared = arena;
	machine.shared_len = shared_end;
	machine.reason = reason;
	datapath_knobs();
	return &machine;
}
