/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* abi_limits.h - what bounds the structs that the BPF programs share with userspace. */
#ifndef EPROXY_ABI_ABI_LIMITS_H
#define EPROXY_ABI_ABI_LIMITS_H

#include <linux/types.h>
#include <linux/bpf.h>

#define ABI_VERSION 5	       /* of the pinned maps; one more whenever a map of an older version would be misread */
#define MARK_MAGIC  0x65705859 /* in the map mark: the directory of the pins is eproxy's */

#define CHUNK_SIZE	  256  /* entries in a chunk of the arrays that grow (chunk.h); a power of two */
#define LEDGER_RING	  64   /* unsettled grafts per connection and direction */
#define BOUNDED_TURNS	  24   /* in place of LEDGER_RING and PIPELINE_MAX where loops are bounded */
#define TOPIC_MAX	  128  /* bytes of a topic name in the kernel path */
#define LEVEL_MAX	  60   /* bytes of one topic level that can be looked up */
#define SENDER_MAX	  168  /* bytes of a request that say who sent it: client id and user name, encoded */
#define PREFIX_MAX	  512  /* bytes of a function's request prefix */
#define HEAD_MAX	  768  /* bytes of a request head, up to and including ce-subject; a multiple of 64 */
#define REQUEST_MAX	  2560 /* bytes of a slot's request buffer */
#define PAYLOAD_MAX	  1472 /* bytes of MQTT payload in the kernel path */
#define PODS_PER_FUNCTION 256  /* pods that one function may have */
#define SLOTS_PER_POD	  64   /* conn indexes reserved for each pod: the bits of its words */
#define POD_UP		  1    /* struct pod, up: gets messages */
#define POD_DRAINS	  2    /* gets none, but what it has in flight may end */
#define POD_DISCOVERED	  3    /* struct pod_reason, state, of pods that get none: not probed yet */
#define POD_SUSPECT	  4    /* rests, because it has failed */
#define POD_DRAINED	  5    /* as an operator wants it */
#define POD_PAUSED	  6    /* with its whole function */
#define CE_ID_LEN	  20 /* characters of ce-id: the slot's id_prefix and the count of its requests in hexadecimal */
#define INFLIGHT_MAX	  1024 /* messages of one client that may be in flight in the kernel path */
#define PARKED_MAX	  4096 /* entries for messages that wait for a slot, of all functions; a power of two */
#define PARKED_ROOM	  1024 /* of them that memory is there for beforehand */
#define PARK_BUCKETS	  64   /* of a queue's clients; a power of two */
#define QUEUES_MAX	  1024 /* functions with messages that wait; a multiple of 64 */
#define PARK_FAMILIES	  2    /* of clients and pods: IPv4, IPv6 */
#define PARK_LISTS	  4 /* of a queue's clients: those of each family that have their turn, and those whose line is busy */
#define PARK_LINES	  4096 /* lines of ordered routes with messages, of all clients */
#define LINE_BUCKETS	  1024 /* of them; a power of two */
#define PARK_CLIENTS	  8192 /* entries for clients and lines, PARKED_MAX and PARK_LINES; a power of two */
#define KEPT_MAX	  1616 /* bytes of a message whose beginning may be kept (keep.h): PAYLOAD_MAX and the longest head */
#define KEPT_ENTRIES	  128	      /* beginnings that may be kept at once, of all connections; a power of two */
#define IDS_MAX		  64	      /* packet identifiers of messages under way that a connection's own entry holds */
#define IDS_TABLE	  1024	      /* entries of a table for those beyond, one identifier each; a power of two */
#define IDS_TABLES	  128	      /* such tables, of all connections; a power of two */
#define PIPELINE_MAX	  64	      /* requests in flight on one slot; a power of two */
#define HIST_BUCKETS	  40	      /* log2(ns) latency buckets */
#define STATUS_CODES	  100	      /* HTTP statuses that are counted, from 200 on */
#define NO_INDEX	  0xffffffffu /* in place of an index: none */
#define HOLD_SHIFT	  11 /* bits of a hold that are the number of its entry (ids.h); the generation is above */
#define HOLD_OUTSIDE	  0xfffffffeu /* hold of a message that found no room among the identifiers (ids.h) */
#define HOLD_NONE	  0xffffffffu /* hold of a message that has no identifier, or of a connection that is gone */

#define COPY_SHORT 240 /* bytes of a PUBLISH that makes do with a short record in the ring copies */
#define COPY_MAX \
	1920 /* and of any other: all that the kernel path takes, fixed header, topic, properties and payload */
#define GRAFT_MAX      65535 /* bytes of one graft */
#define CACHE_TOPIC    48    /* bytes of the topic that a device's entry remembers */
#define PROPERTIES_MAX 256   /* bytes of a PUBLISH's MQTT 5 properties in the kernel path; a power of two */
#define USERS_MAX      4     /* user properties among them */
#define SUBJECT_MAX    384   /* bytes of ce-subject: TOPIC_MAX, all percent-encoded */

#endif
