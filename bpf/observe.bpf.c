// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The observer: what HTTP the pods get from anybody, and what they answer. An
 * object of its own, in front of the other programs at the pods' interfaces, so
 * that it sees what is on the wire. It never changes a packet.
 */
#include "observe/packet.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* Keeps what only userspace uses in the BTF. */
const enum observe_protocol *unused_protocol __attribute__((unused));
const enum observe_why *unused_why __attribute__((unused));
const enum observe_mark *unused_mark __attribute__((unused));
const struct observe_sweep *unused_sweep __attribute__((unused));
const struct slot *unused_slot __attribute__((unused)); /* which the compiler would only name in an array in chunks */

/* TC egress of the pods' interfaces: what is sent to pods. */
SEC("tc")
int observe_out(struct __sk_buff *skb)
{
	return observe(skb, TOWARDS_POD);
}

/* TC ingress of the pods' interfaces: what pods send. */
SEC("tc")
int observe_in(struct __sk_buff *skb)
{
	return observe(skb, FROM_POD);
}

struct bpf_map;

/* One connection of the sweep. Returns 0: go on. */
static long sweep_conn(struct bpf_map *map, struct observe_key *key, struct observe_conn *c, struct observe_sweep *args)
{
	__u64 quiet = args->now_ns - c->seen_ns;
	__u64 word = c->word;
	struct observe_counts *o;

	if (c->pod != args->pod &&
	    ((__s64)quiet < 0 || quiet < (conn_awaited(word) && !(word & CONN_LOST) ? args->gone_ns : args->idle_ns))) {
		args->kept++;
		return 0;
	}
	o = bpf_map_lookup_elem(&observed, &c->pod);
	if (o)
		conn_over(c, o, args->now_ns);
	bpf_map_delete_elem(map, key);
	args->forgotten++;
	return 0;
}

/* Forgets connections on which nothing has happened for long (struct observe_sweep). Run by the loader. */
SEC("syscall")
int observe_forget(struct observe_sweep *args)
{
	struct observe_sweep sweep = *args;

	sweep.now_ns = bpf_ktime_get_ns();
	sweep.forgotten = 0;
	sweep.kept = 0;
	bpf_for_each_map_elem(&observed_conns, sweep_conn, &sweep, 0);
	*args = sweep;
	return 0;
}
