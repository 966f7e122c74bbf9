/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * chunk.h - arrays whose memory follows what is used. To the kernel each is an
 * array of arrays of CHUNK_SIZE entries; userspace adds one when it needs an
 * entry of it first (internal/chunk), and none goes before the programs do. So
 * an entry that was found stays valid as one of a plain array does. The second
 * look-up costs some 2 ns: the kernel inlines both (array_of_map_gen_lookup,
 * array_map_gen_lookup in kernel/bpf/arraymap.c).
 */
#ifndef EPROXY_CHUNK_H
#define EPROXY_CHUNK_H

#include "config.h"

#define CHUNKED(name, kind, flags, entry, entries)               \
	struct {                                                 \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);        \
		__uint(max_entries, (entries) / CHUNK_SIZE);     \
		__type(key, __u32);                              \
		__array(                                         \
			values, struct {                         \
				__uint(type, kind);              \
				__uint(map_flags, flags);        \
				__uint(max_entries, CHUNK_SIZE); \
				__type(key, __u32);              \
				__type(value, entry);            \
			});                                      \
	} name SEC(".maps")

/* The entry with this index, or NULL: beyond the array, or in a chunk that is not there. The native model brings its own. */
#ifndef chunk_entry
#define chunk_entry(name, entry, index)                                       \
	({                                                                    \
		__u32 of_ = (index) / CHUNK_SIZE, in_ = (index) % CHUNK_SIZE; \
		void *chunk_ = bpf_map_lookup_elem(&(name), &of_);            \
                                                                              \
		(entry *)(chunk_ ? bpf_map_lookup_elem(chunk_, &in_) : NULL); \
	})
#endif

#endif
