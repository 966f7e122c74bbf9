/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * abi.h - every struct and enum that the BPF programs share with userspace, by subject.
 *
 * Go sees these through generated types only. Padding is explicit (-Wpadded).
 * Unless a field's type says __be16 or __be32, it is in host byte order.
 * "wire" sequence numbers are what the peer sees, "kernel" sequence numbers
 * are what the local socket sees (see ledger.h).
 */
#ifndef EPROXY_ABI_H
#define EPROXY_ABI_H

#include "abi_limits.h"
#include "abi_reason.h"
#include "abi_conn.h"
#include "abi_device.h"
#include "abi_alias.h"
#include "abi_slot.h"
#include "abi_pod.h"
#include "abi_queue.h"
#include "abi_route.h"
#include "abi_series.h"
#include "abi_event.h"
#include "abi_control.h"
#include "abi_trace.h"
#include "abi_sweep.h"

#endif
