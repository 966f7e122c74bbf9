/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* abi_alias.h - the topics of a connection's topic aliases (MQTT 5 section 3.3.2.3.4). */
#ifndef EPROXY_ABI_ABI_ALIAS_H
#define EPROXY_ABI_ABI_ALIAS_H

#include "abi_limits.h"

#define ALIASES_MAX 16 /* topic aliases of a client, from 1 on; a power of two */

/* The topic that an alias stands for. */
struct alias {
	__u32 len; /* bytes */
	__u32 pad;
	__u8 topic[TOPIC_MAX]; /* what lies behind len is zero */
};

/*
 * The aliases of one connection; same index as its device. Which of them have a topic says the device (aliases).
 * Written by alias_control, under the conn's lock.
 */
struct alias_table {
	struct alias alias[ALIASES_MAX]; /* that of alias n is n - 1 */
};

/* Arguments of alias_control: what the MQTT server has learnt. */
struct alias_args {
	__u32 conn;
	__u32 gen;
	__u32 alias; /* from 1 on */
	__u32 len;   /* bytes of the topic; 0: it has none that the programs could route */
	__u32 ok;    /* result: 1: done */
	__u32 pad;
	__u8 topic[TOPIC_MAX]; /* what lies behind len is zero */
};

#endif
