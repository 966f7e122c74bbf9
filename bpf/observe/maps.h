/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* maps.h - the observer's maps; docs/MAPS.md is generated from their comments. flows and slots are those of the other programs. */
#ifndef EPROXY_OBSERVE_MAPS_H
#define EPROXY_OBSERVE_MAPS_H

#include "../mech/chunk.h"
#include "http1.h"

/* As in include/maps.h, whose map it is. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 20480);
	__type(key, struct tuple);
	__type(value, __u32);
} flows SEC(".maps");

/* As in include/maps.h. */
CHUNKED(slots, BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE, struct slot, 4096);

/* Address of a pod -> its index in observed and observed_flight. Writer: loader. Reader: observer. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct observe_pod);
	__type(value, __u32);
} observed_pods SEC(".maps");

/* A bit for each port of observed_pods, by the port as packets have it. Writer: loader. Reader: observer. */
__u64 observed_ports[65536 / 64];

/* Connections to pods that are followed. Writer: observer; those that are over or long idle are removed. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct observe_key);
	__type(value, struct observe_conn);
} observed_conns SEC(".maps");

/* What was counted of each pod's HTTP. Writer: observer. Reader: loader. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct observe_counts);
} observed SEC(".maps");

/* Requests in flight to each pod. Writer: observer. Reader: loader. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct observe_flight);
} observed_flight SEC(".maps");

/* Work space of a direction's program. */
struct observe_scratch {
	struct observe_conn fresh; /* a new connection's entry */
	__u8 look[OBSERVE_LOOK + LINE_LOOK];
};

/* Work space by direction. Writer and reader: the program itself. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct observe_scratch);
} observe_scratches SEC(".maps");

#endif
