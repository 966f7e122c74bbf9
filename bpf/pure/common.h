/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* common.h - what every BPF header needs; also compiles natively for tests. */
#ifndef EPROXY_COMMON_H
#define EPROXY_COMMON_H

#include "../abi/abi.h"

#ifdef __bpf__
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_core_read.h>
#else
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <arpa/inet.h>
#define bpf_htons htons
#define bpf_ntohs ntohs
#define bpf_htonl htonl
#define bpf_ntohl ntohl
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#endif

#ifdef __bpf__
#define bool  _Bool
#define true  1
#define false 0
#define NULL  ((void *)0)
#endif

#ifndef offsetof
#define offsetof(type, member) __builtin_offsetof(type, member)
#endif

#ifndef memcpy
#define memcpy __builtin_memcpy
#endif
#ifndef memset
#define memset __builtin_memset
#endif

/*
 * Keeps the compiler from widening or re-deriving a value after a bounds
 * check, so that the verifier sees the check on the register that is used.
 */
#define opaque(x) asm volatile("" : "+r"(x))

/*
 * Whether low <= x <= high, of a length that a helper is given. clang makes one
 * comparison of the two, of x - low with high - low; Linux 6.12 does not conclude
 * from the difference to x, and refuses the call. So the compiler must not see
 * that both comparisons are of the same value.
 */
#define within(x, low, high)                   \
	({                                     \
		bool inside = (x) <= (high);   \
		if (inside) {                  \
			opaque(x);             \
			inside = (x) >= (low); \
		}                              \
		inside;                        \
	})

/*
 * A loop's bound, read afresh in every turn. A bound kept in a register would
 * be known to the verifier after the loop, differently for every number of
 * turns, and each would be followed to the end of the program.
 */
#define afresh(x) (*(const volatile typeof(x) *)&(x))

/*
 * A loop over i = 0 .. n-1 that the verifier follows only until nothing new
 * can happen, not n times: its counter starts from a value that the verifier
 * does not know and is compared by way of a copy, so that it stays unknown
 * (the range that a comparison gives would move on in every turn); may_goto
 * (Linux 6.9) is its proof that the loop ends. The body must mask what it
 * derives from i.
 *
 * The object for older kernels (EPROXY_BOUNDED) has a counter that the verifier
 * knows, and follows every turn. TURNS_MAX is as many as it can follow; nothing
 * that a loop goes over may have more. n is read from memory in every turn, for
 * the reason that afresh gives.
 */
#ifdef EPROXY_BOUNDED
#define TURNS_MAX BOUNDED_TURNS
#else
#define TURNS_MAX LEDGER_RING
#endif
#ifdef __bpf__
volatile __u32 zero;
#define can_loop                                                           \
	({                                                                 \
		__label__ l_break, l_continue;                             \
		bool more = true;                                          \
		asm volatile goto("may_goto %l[l_break]" : : : : l_break); \
		goto l_continue;                                           \
	l_break:                                                           \
		more = false;                                              \
	l_continue:;                                                       \
		more;                                                      \
	})
#define unlinked(x)                                   \
	({                                            \
		__u32 copy = (x);                     \
		asm volatile("%0 *= 1" : "+r"(copy)); \
		copy;                                 \
	})
#define reread(n)                                \
	({                                       \
		__u32 bound;                     \
		asm volatile("" : : : "memory"); \
		bound = (n);                     \
		opaque(bound);                   \
		bound;                           \
	})
#else
#define zero	    0
#define can_loop    true
#define unlinked(x) (x)
#define reread(n)   (n)
#endif
#ifdef EPROXY_BOUNDED
#define repeat(i, n) _Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < TURNS_MAX && i < reread(n); i++)
#else
#define repeat(i, n) for (__u32 i = zero; unlinked(i) < (n) && can_loop; i++)
#endif

static __always_inline __u32 popcount64(__u64 x)
{
	x -= (x >> 1) & 0x5555555555555555ull;
	x = (x & 0x3333333333333333ull) + ((x >> 2) & 0x3333333333333333ull);
	x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0full;
	return (x * 0x0101010101010101ull) >> 56;
}

#endif
