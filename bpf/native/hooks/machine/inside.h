/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* inside.h - what the parts of the machine know of each other. */
#ifndef EPROXY_MACHINE_INSIDE_H
#define EPROXY_MACHINE_INSIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#include "bpf/bpf_helpers.h"
#include "machine.h"

#define TC_OK	      0
#define TC_REDIRECTED 7

/* The fields of the kernel's sk_buff and tcp_sock that the programs read; checked in datapath.c. */
struct kernel_skb {
	__u8 ip_summed : 2;
};

struct kernel_sock {
	__u32 rcv_nxt;
	__u32 copied_seq;
	__u32 snd_una;
	__u32 snd_nxt;
	__u32 snd_wnd;
	__u32 mss_cache;
	__u16 sack_ok : 3, snd_wscale : 4, rcv_wscale : 4;
	__u32 rcv_wup;
	__u32 rcv_wnd;
	void *out_of_order_queue;
	void *ooo_last_skb;
	__u32 srtt_us;
};

/* A packet; its bytes lie below 4 GiB, since the context has 32 bits for their address. */
struct skb {
	struct __sk_buff ctx;
	struct kernel_skb kernel;
	struct kernel_sock sock;
	__u8 *head;
};

#define BACKLOG 4

struct task {
	ucontext_t context;
	__u32 id;
	bool over;
	bool at_point;	   /* stopped by its budget */
	bool gives_way;	   /* the others go on for a moment */
	bool until_unlock; /* runs only to free a lock that another task waits for */
	__s64 budget;	   /* points to pass */
	__u32 points;
	__u32 last; /* what the last point was for */
	struct bpf_spin_lock *held;
	struct bpf_spin_lock *wanted;
	/* of the program that it runs */
	bool xdp;
	bool to_peer;
	__u32 to_ifindex;
	struct skb *backlog[BACKLOG]; /* clones that their interface is to receive */
	__u32 backlogged;
	__u32 gen; /* that userspace armed last */
	__s32 references;
};

extern struct machine machine;
extern struct task *current; /* NULL: outside of a run */

/* memory.c */
void memory_init(void);
void *memory_of(const char *map, __u32 index);
__u32 *flow_find(const struct tuple *key);
void flow_delete(const struct tuple *key);
void socket_set(__u32 index, __u32 state);
bool memory_shared(const void *p);
bool memory_bulk(const void *p, __u32 *which);

/* sched.c */
void fault(const char *what);
void point(__u32 what);
void give_way(void);
void touch(const void *p, bool write);
void touch_range(const void *p, size_t len, bool write);
void task_main(struct task *t); /* steps.c */

/* packet.c */
struct skb *skb_new(const __u8 *bytes, __u32 len);
void packets_reset(void);
void leave(struct skb *k, __u32 ifindex);
struct record *record_new(enum record_kind kind);
void record_frame(enum record_kind kind, const struct skb *k, __u32 ifindex);

/* datapath.c */
int xdp_device(struct xdp_md *ctx);
int tc_device_in(struct __sk_buff *skb);
int tc_device_out(struct __sk_buff *skb);
int tc_pod_in(struct __sk_buff *skb);
int tc_pod_out(struct __sk_buff *skb);
int slot_control(struct slot_args *a);
int device_control(struct device_args *a);
int alias_control(struct alias_args *a);
int conn_free(struct free_args *a);
int park_control(struct park_args *a);
int pod_control(struct pod_args *a);
int park_send(struct __sk_buff *skb);
void datapath_sweep(void);
void datapath_knobs(void);

#endif
