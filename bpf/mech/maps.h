/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * maps.h - every map, once. The comment before each names its owner, who
 * writes and who reads it; docs/MAPS.md is generated from them. Sizes are the
 * defaults; the loader sets those that the configuration asks for.
 */
#ifndef EPROXY_MECH_MAPS_H
#define EPROXY_MECH_MAPS_H

#include "chunk.h"

/* 4-tuple -> conn index. Writer: loader. Reader: every hook, for what hints does not know. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 20480);
	__type(key, struct tuple);
	__type(value, __u32);
} flows SEC(".maps");

/* Hash of a 4-tuple -> conn index that flows gave last, with the hash's upper half above it. Writer and reader: every hook, once per TCP packet. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u64);
} hints SEC(".maps");

/* TCP connections: slots first, then devices. Writer: programs under the spin lock; loader with BPF_F_LOCK. Mappable so that entries begin at cache lines: nobody can map what has a spin lock. */
CHUNKED(conns, BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE, struct conn, 20480);

/* Device part of a connection. Writer: loader before arming, then programs. Mapped by the loader for reading. */
CHUNKED(devices, BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE, struct device, 16384);

/* Topic aliases of a client (index as devices). A chunk is there once one of its clients uses any. Writer: programs, under the connection's lock. Reader: XDP, TC. */
CHUNKED(alias_tables, BPF_MAP_TYPE_ARRAY, 0, struct alias_table, 16384);

/* Packet identifiers beyond those that devices has room for (struct id_table), by number. Writer: programs, under the lock of the connection that has the table. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, IDS_TABLES + 1); /* number 0 is nobody's */
	__type(key, __u32);
	__type(value, struct id_table);
} id_tables SEC(".maps");

/* Slot part of a connection, with the messages in flight. Writer: programs; loader before arming. Mapped by the loader. */
CHUNKED(slots, BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE, struct slot, 4096);

/* Messages that wait for slots, by number. Writer: programs. Mapped by the loader, which reads those that it takes. */
CHUNKED(parked, BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE, struct parked_message, PARKED_MAX);

/* Beginnings of messages whose rest is about to come (index: conn index modulo KEPT_ENTRIES; keep.h). Writer and reader: TC, who has set busy. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KEPT_ENTRIES);
	__type(key, __u32);
	__type(value, struct kept);
} keeps SEC(".maps");

/* What they wait for and in which order. Writer: programs, under its lock. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct parking);
} parkings SEC(".maps");

/* The functions' queues (struct function, queue). Writer: programs under the lock in parkings; loader. Mapped by the loader. */
CHUNKED(queues, BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE, struct queue, QUEUES_MAX);

/* Requests in flight (index slot * knob_pipeline + number modulo knob_pipeline). Writer: programs. Mapped by the loader. */
CHUNKED(requests, BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE, struct request, 4096);

/* Slot -> its kernel socket: the socket map that routes. Writer: loader; closed sockets leave by themselves. Reader: XDP, TC. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u64);
} pod_socks SEC(".maps");

/* Pods with the words that say which slots are free. Writer: loader; the words by programs, atomically. Mapped by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 64);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct pod);
} pods SEC(".maps");

/* Functions with their pods and request prefixes. Writer: loader, always to an unused index, but for the pods. Reader: XDP, TC. Mapped by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct function);
} functions SEC(".maps");

/* Routes that the automaton's nodes name. Writer: loader. Reader: XDP, TC. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 32768);
	__type(key, __u32);
	__type(value, struct route);
} routes SEC(".maps");

/* Automaton: nodes. Writer: loader, always to unused indexes. Reader: XDP, TC. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 131072);
	__type(key, __u32);
	__type(value, struct node);
} nodes SEC(".maps");

/* Automaton: edges, one look-up per topic level. Writer: loader. Reader: XDP, TC. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct edge_key);
	__type(value, __u32);
} edges SEC(".maps");

/* Roots of the automaton, epoch, drain switch, ends of the tables. Writer: loader. Reader: every program. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct globals);
} settings SEC(".maps");

/* Topics that a client is known to be allowed on. Writer: loader, after the server allowed one. Reader: XDP, TC. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct grant_key);
	__type(value, __u32);
} grants SEC(".maps");

/* Addresses and ports that the MQTT server listens on. Writer: loader. Reader: TC, once per SYN. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct listener);
	__type(value, __u32);
} listeners SEC(".maps");

/* Addresses and ports of pods that are asleep, with the pods' indexes: a SYN to one that no slot sends wakes it. Writer: loader. Reader: TC, once per SYN. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 64);
	__type(key, struct listener);
	__type(value, __u32);
} asleep SEC(".maps");

/* Counters by hook and reason (index hook * 256 + reason). Writer: programs. Reader: loader, mapsctl. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 256 * HOOK_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} reasons SEC(".maps");

/* Counters and latency histogram by route and function (index route.counter). Writer: programs. Reader: loader, mapsctl. */
CHUNKED(route_counters, BPF_MAP_TYPE_PERCPU_ARRAY, 0, struct route_stats, 32768);

/* Requests answered in the kernel, by function, address and status (index pod.counter). Writer: programs. Reader: loader, mapsctl. */
CHUNKED(pod_counters, BPF_MAP_TYPE_PERCPU_ARRAY, 0, struct pod_stats, 256);

/* What each index of route_counters counts, also after a reload without that route. Writer: loader. Reader: mapsctl. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 32768);
	__type(key, __u32);
	__type(value, struct route_series);
} route_labels SEC(".maps");

/* What each index of pod_counters counts, also when the pod is gone. Writer: loader. Reader: mapsctl. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct pod_series);
} pod_labels SEC(".maps");

/* Filters of the routes, for people. Writer: loader. Reader: mapsctl. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 32768);
	__type(key, __u32);
	__type(value, struct route_info);
} route_names SEC(".maps");

/* Names and URLs of the functions, for people. Writer: loader. Reader: mapsctl. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct function_info);
} function_names SEC(".maps");

/* Why a pod is not reached by XDP, left to the fallback, or gets no messages, for people. Writer: loader. Reader: mapsctl, loader status. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct pod_key);
	__type(value, struct pod_reason);
} pod_reasons SEC(".maps");

/* Where GRO was switched on at the pods' ends of their veth pairs (configuration key of the same name), to be restored also after a crash, by
 * the near end's ifindex. Writer: loader. Reader: loader. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct pod_gro);
} pods_gro SEC(".maps");

/* Pinned beside maps, not in it: this directory of pins is eproxy's, of this version. Writer: loader, once. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pin_mark);
} mark SEC(".maps");

/* Bit n of word m: the sweeper looks at connection 64 m + n. Writer: programs, atomically. Reader: the sweeper. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 20480 / 64);
	__type(key, __u32);
	__type(value, __u64);
} attention SEC(".maps");

/* The sweeper's timer. Writer: programs. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sweeper);
} sweepers SEC(".maps");

/* Pods that are to be woken: nothing else stands in front of them. Writer: programs. Reader: a thread of the loader's. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} wakes SEC(".maps");

/* What needs userspace. Writer: programs. Reader: loader. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

/* Messages that were taken, for subscribers (also_broker). Writer: programs. Reader: loader. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 19);
} copies SEC(".maps");

/* Which messages somebody looks at. Writer: loader. Reader: programs, only while settings.tracing says so. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tracing);
} tracings SEC(".maps");

/* Messages that are looked at and have no response yet; what userspace finishes it removes when they are old. Writer: programs; loader. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct trace_key);
	__type(value, struct trace_event);
} traced SEC(".maps");

/* What became of messages that are looked at. Writer: programs. Reader: loader. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} traces SEC(".maps");

#endif
