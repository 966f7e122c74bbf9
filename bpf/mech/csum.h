/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* csum.h - Internet checksums (RFC 1071), 16-bit words in native order. */
#ifndef EPROXY_MECH_CSUM_H
#define EPROXY_MECH_CSUM_H

#include "packet.h"

static __always_inline __u16 csum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Sum of a TCP header without options, 16-bit words in native order, folded once. */
static __always_inline __u32 tcp_sum(const struct tcphdr *tcp)
{
	const __u32 *w = (const __u32 *)tcp;
	__u64 sum = (__u64)w[0] + w[1] + w[2] + w[3] + w[4];

	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static __always_inline void tcp_checksum(struct tcphdr *tcp, bool partial, __u32 pseudo, __u32 payload_sum)
{
	if (partial) {
		tcp->check = ~csum_fold(pseudo);
		return;
	}
	pseudo = (pseudo & 0xffff) + (pseudo >> 16);
	payload_sum = (payload_sum & 0xffff) + (payload_sum >> 16);
	tcp->check = csum_fold(pseudo + tcp_sum(tcp) + payload_sum);
}

/* Unfolded sum of len bytes; the buffer has room to be padded to four. */
static __always_inline __u32 buffer_sum(__u8 *buf, __u32 len, __u32 sum)
{
	__u32 at = 0;

	/* bpf_csum_diff of older kernels takes 512 bytes at a time */
	for (int i = 0; i < REQUEST_MAX / 512; i++) {
		__u32 n;

		if (len <= at)
			break;
		n = len - at;
		if (n >= 512) {
			sum = bpf_csum_diff(NULL, 0, (__be32 *)(buf + at), 512, sum);
		} else {
			n = (n + 3) & 0x3fc;
			if (n <= 512)
				sum = bpf_csum_diff(NULL, 0, (__be32 *)(buf + at), n, sum);
			break;
		}
		at += 512;
	}
	return sum;
}

#endif
