/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* bpf_helpers.h - stands in for libbpf's: the programs call the machine instead of the kernel. */
#ifndef MACHINE_BPF_HELPERS_H
#define MACHINE_BPF_HELPERS_H

#include <linux/types.h>
#include <linux/bpf.h>

#define SEC(name)
#define __ksym
#undef __always_inline
#define __always_inline	   inline __attribute__((always_inline))
#define __uint(name, val)  int(*name)[val]
#define __type(name, val)  typeof(val) *name
#define __array(name, val) typeof(val) *name[]

/* What a map's definition says; the machine's record of it is kept in the variable itself. */
void *machine_lookup(void *map, const char *name, __u32 type, __u32 entries, __u32 key_size, __u32 value_size,
		     const void *key);
#define bpf_map_lookup_elem(map, key_)                                                                           \
	machine_lookup(map, #map, sizeof(*(map)->type) / sizeof(int), sizeof(*(map)->max_entries) / sizeof(int), \
		       sizeof(*(map)->key), sizeof(*(map)->value), key_)

/* Nobody looks at messages in the machine (trace.h). */
#define bpf_map_update_elem(map, key, value, flags) ((void)(key), (void)(value), -1)
#define bpf_map_delete_elem(map, key)		    ((void)(key), -1)

/* An array in chunks is one map here: the machine has no memory to save. */
#define chunk_entry(map, entry, index)                                                                           \
	({                                                                                                       \
		__u32 key_ = (index);                                                                            \
		(entry *)machine_lookup(&(map), "&" #map, sizeof(*(map).values[0]->type) / sizeof(int),          \
					sizeof(*(map).max_entries) / sizeof(int) * CHUNK_SIZE, 4, sizeof(entry), \
					&key_);                                                                  \
	})

void bpf_spin_lock(struct bpf_spin_lock *lock);
void bpf_spin_unlock(struct bpf_spin_lock *lock);
long bpf_loop(__u32 n, long (*step)(__u64 index, void *data), void *data, __u64 flags);
__u64 bpf_ktime_get_ns(void);
/* Timers do not run here: steps call what they would. Of one that was started the first word is 1. */
#define bpf_timer_init(timer, map, clock)   0
#define bpf_timer_set_callback(timer, call) ((void)(call), 0)
#define bpf_timer_start(timer, ns, flags)   ((void)(*(volatile __u64 *)(timer) = 1), 0)
__u32 bpf_get_prandom_u32(void);
long bpf_probe_read_kernel(void *to, __u32 size, const void *from);
__s64 bpf_csum_diff(__be32 *from, __u32 from_size, __be32 *to, __u32 to_size, __u32 seed);

void *bpf_ringbuf_reserve(void *ring, __u64 size, __u64 flags);
__u64 bpf_ringbuf_query(void *ring, __u64 what);
void bpf_ringbuf_submit(void *data, __u64 flags);
void bpf_ringbuf_discard(void *data, __u64 flags);

long bpf_sk_release(void *sk);
/* No packet finds a socket: what the programs know they know from what it sends. */
#define bpf_skc_lookup_tcp(skb, tuple, size, netns, flags) ((void)(tuple), (struct bpf_sock *)NULL)
struct bpf_sock *bpf_sk_fullsock(struct bpf_sock *sk);
void *bpf_skc_to_tcp_sock(void *sk);

/* No host in the machine forwards. */
#define bpf_fib_lookup(ctx, params, size, flags) ((void)(params), BPF_FIB_LKUP_RET_FWD_DISABLED)

long bpf_redirect(__u32 ifindex, __u64 flags);
long bpf_redirect_peer(__u32 ifindex, __u64 flags);
long bpf_clone_redirect(struct __sk_buff *skb, __u32 ifindex, __u64 flags);

long bpf_skb_pull_data(struct __sk_buff *skb, __u32 len);
long bpf_skb_load_bytes(const void *skb, __u32 off, void *to, __u32 len);
long bpf_skb_store_bytes(struct __sk_buff *skb, __u32 off, const void *from, __u32 len, __u64 flags);
long bpf_skb_change_tail(struct __sk_buff *skb, __u32 len, __u64 flags);
long bpf_skb_vlan_push(struct __sk_buff *skb, __be16 proto, __u16 tci);
long bpf_skb_vlan_pop(struct __sk_buff *skb);
__s64 bpf_csum_update(struct __sk_buff *skb, __wsum csum);
long bpf_l3_csum_replace(struct __sk_buff *skb, __u32 off, __u64 from, __u64 to, __u64 size);
long bpf_l4_csum_replace(struct __sk_buff *skb, __u32 off, __u64 from, __u64 to, __u64 flags);

long bpf_xdp_load_bytes(struct xdp_md *ctx, __u32 off, void *to, __u32 len);
long bpf_xdp_store_bytes(struct xdp_md *ctx, __u32 off, void *from, __u32 len);
long bpf_xdp_adjust_head(struct xdp_md *ctx, int delta);
__u64 bpf_xdp_get_buff_len(struct xdp_md *ctx);

#endif
