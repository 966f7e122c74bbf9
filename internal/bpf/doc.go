// Package bpf holds the compiled BPF programs and the Go types of everything
// they share with userspace, generated from bpf/eproxy.bpf.c and
// bpf/include/abi.h.
package bpf

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-function -Wno-unused-parameter -I/usr/include/x86_64-linux-gnu" -type reason -type hook -type conn_state -type conn_kind -type conn_flag -type graft_state -type slot_state -type slot_op -type slot_result -type event_kind -type route_flag -type event -type slot_args -type device_op -type device_args -type link_args -type free_args -type right -type conn -type graft -type again -type device -type slot -type pod -type function -type route -type node -type edge_key -type globals -type grant_key -type route_stats -type pod_stats -type route_series -type pod_series -type route_info -type function_info -type tuple -type ledger -type framing -type message -type request -type pin_mark -type pod_key -type pod_reason -type pod_gro -type listener Eproxy ../../bpf/eproxy.bpf.c
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-function -Wno-unused-parameter -DEPROXY_BOUNDED -I/usr/include/x86_64-linux-gnu" Bounded ../../bpf/eproxy.bpf.c
