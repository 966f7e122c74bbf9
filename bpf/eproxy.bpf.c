// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* One object, so that all programs share their maps: each hook is a file in xdp/, tc/ or control/. */
#include "xdp/device.bpf.c"
#include "tc/device_in.bpf.c"
#include "tc/out.bpf.c"
#include "tc/pod_in.bpf.c"
#include "control/slot.bpf.c"
#include "control/pod.bpf.c"
#include "control/device.bpf.c"
#include "control/alias.bpf.c"
#include "control/conn.bpf.c"
#include "control/queue.bpf.c"
#include "control/sweep.bpf.c"

char _license[] SEC("license") = "Dual BSD/GPL";

/* Keeps enums and structs that only userspace and comments use in the BTF. */
const enum reason *unused_reason __attribute__((unused));
const enum hook *unused_hook __attribute__((unused));
const enum conn_state *unused_conn_state __attribute__((unused));
const enum conn_kind *unused_conn_kind __attribute__((unused));
const enum conn_flag *unused_conn_flag __attribute__((unused));
const enum graft_state *unused_graft_state __attribute__((unused));
const enum slot_state *unused_slot_state __attribute__((unused));
const enum slot_op *unused_slot_op __attribute__((unused));
const enum origin_kind *unused_origin_kind __attribute__((unused));
const enum company *unused_company __attribute__((unused));
const enum depth_why *unused_depth_why __attribute__((unused));
const enum take_only *unused_take_only __attribute__((unused));
const enum slot_result *unused_slot_result __attribute__((unused));
const enum event_kind *unused_event_kind __attribute__((unused));
const enum route_flag *unused_route_flag __attribute__((unused));
const enum arm_flag *unused_arm_flag __attribute__((unused));
const struct event *unused_event __attribute__((unused));
const struct copy *unused_copy __attribute__((unused));
const struct slot_args *unused_slot_args __attribute__((unused));
const enum right *unused_right __attribute__((unused));
const enum device_op *unused_device_op __attribute__((unused));
const struct device_args *unused_device_args __attribute__((unused));
const struct alias_args *unused_alias_args __attribute__((unused));
const enum park_op *unused_park_op __attribute__((unused));
const enum pod_op *unused_pod_op __attribute__((unused));
const enum pod_sleep *unused_pod_sleep __attribute__((unused));
const struct park_args *unused_park_args __attribute__((unused));
const struct link_args *unused_link_args __attribute__((unused));
const struct free_args *unused_free_args __attribute__((unused));
/* Those of arrays in chunks, which the compiler would only name there. */
const struct conn *unused_conn __attribute__((unused));
const struct device *unused_device __attribute__((unused));
const struct alias_table *unused_alias_table __attribute__((unused));
const struct slot *unused_slot __attribute__((unused));
const struct parked_message *unused_parked_message __attribute__((unused));
const struct queue *unused_queue __attribute__((unused));
const struct request *unused_request __attribute__((unused));
const struct route_stats *unused_route_stats __attribute__((unused));
const struct pod_stats *unused_pod_stats __attribute__((unused));
