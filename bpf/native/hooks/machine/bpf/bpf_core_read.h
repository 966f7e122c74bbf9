/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* bpf_core_read.h - stands in for libbpf's: the structs are the ones that the programs declare. */
#ifndef MACHINE_BPF_CORE_READ_H
#define MACHINE_BPF_CORE_READ_H

#define BPF_CORE_READ_BITFIELD(s, field) ((s)->field)

#endif
