/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* entries.h - the entries of the maps, by their indexes. */
#ifndef EPROXY_MECH_ENTRIES_H
#define EPROXY_MECH_ENTRIES_H

#include "maps.h"

/* The connection with this conn index, or NULL. */
static __always_inline struct conn *conn_entry(__u32 index)
{
	return chunk_entry(conns, struct conn, index);
}

/* The device part of the connection with this conn index, not a slot's, or NULL. */
static __always_inline struct device *device_entry(__u32 conn)
{
	return chunk_entry(devices, struct device, conn - knob_slots);
}

/*
 * The table that the connection's packet identifiers have now; number 0, which is nobody's, if they have none: so that
 * the verifier need not follow both cases. NULL never is. Looked up before the lock: ids.h finds out under it
 * whether it is still so.
 */
static __always_inline struct id_table *device_table(const struct device *d)
{
	__u32 number = *(volatile const __u16 *)&d->ids.table;

	return bpf_map_lookup_elem(&id_tables, &number);
}

/* The topic aliases of the connection with this conn index, not a slot's, or NULL: none of them has a topic. */
static __always_inline struct alias_table *alias_table_entry(__u32 conn)
{
	return chunk_entry(alias_tables, struct alias_table, conn - knob_slots);
}

/* The slot part of the connection with this conn index, or NULL. */
static __always_inline struct slot *slot_entry(__u32 index)
{
	return chunk_entry(slots, struct slot, index);
}

/* The message that waits with this number, or NULL. */
static __always_inline struct parked_message *parked_entry(__u32 number)
{
	return chunk_entry(parked, struct parked_message, number);
}

/* The queue with this index, or NULL. */
static __always_inline struct queue *queue_entry(__u32 index)
{
	return chunk_entry(queues, struct queue, index);
}

/* Where the beginning of a message of the connection may be kept. */
static __always_inline struct kept *kept_entry(__u32 conn)
{
	__u32 key = conn & (KEPT_ENTRIES - 1);

	return bpf_map_lookup_elem(&keeps, &key);
}

static __always_inline struct parking *parking_get(void)
{
	__u32 only = 0;

	return bpf_map_lookup_elem(&parkings, &only);
}

/* The counters of a route and function (struct route, counter), or NULL. */
static __always_inline struct route_stats *route_stats_entry(__u32 counter)
{
	return chunk_entry(route_counters, struct route_stats, counter);
}

/* The counters of a pod (struct pod, counter), or NULL. */
static __always_inline struct pod_stats *pod_stats_entry(__u32 counter)
{
	return chunk_entry(pod_counters, struct pod_stats, counter);
}

static __always_inline struct globals *globals_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

/*
 * The buffer of a slot's request. The first of each slot lie together, so that slots
 * that have one request at a time share their memory; behind them those of a slot do,
 * and the slots of a pod.
 */
static __always_inline struct request *request_buffer(__u32 index, __u32 number)
{
	__u32 n = number & (knob_pipeline - 1), pod = index & ((1 << knob_pod_shift) - 1);
	__u32 own = pod * SLOTS_PER_POD + (index >> knob_pod_shift);

	return chunk_entry(requests, struct request, n ? knob_slots + own * knob_pipeline + n : index);
}

#endif
