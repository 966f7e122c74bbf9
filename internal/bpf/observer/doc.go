// Package observer holds the compiled BPF programs that count the HTTP of pods,
// and the Go types of what they share with userspace, generated from
// bpf/observe.bpf.c and bpf/observe/abi.h.
package observer

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-function -Wno-unused-parameter -I/usr/include/x86_64-linux-gnu" -type observe_protocol -type observe_why -type observe_mark -type observe_pod -type observe_counts -type observe_flight -type observe_key -type observe_conn -type observe_sweep Observe ../../../bpf/observe.bpf.c
