/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* alias.h - a message with a topic alias gets its topic. */
#ifndef EPROXY_ADMIT_ALIAS_H
#define EPROXY_ADMIT_ALIAS_H

#include "../mech/entries.h"
#include "../pure/alias.h"
#include "../work/scratch.h"

/*
 * The message in s->publish has the alias in s->properties.read: without a topic it gets the one that the connection's table has, and one that it
 * has must be the same. What the table says is what the alias stands for at the connection's next byte: if more is passed before the message
 * is taken, it is not next any more, and not taken (conn_take). Returns enum reason; REASON_ALIAS: it is not certain. A function of its own, so that the verifier
 * follows it once, and messages without aliases do not pay for it.
 */
__attribute__((noinline)) int alias_topic(__u32 hook, __u32 conn, __u32 gen)
{
	struct alias_table *t = alias_table_entry(conn);
	struct scratch *s = scratch_of(hook);
	struct device *d = device_entry(conn);
	struct conn *c = conn_entry(conn);
	bool known = false;
	struct alias *a;
	__u32 n;

	if (!s || !t || !d || !c)
		return REASON_ALIAS;
	n = s->properties.read.alias;
	a = alias_at(t, n);
	bpf_spin_lock(&c->lock);
	if (c->gen == gen && alias_certain(d, n)) {
		known = !s->publish.topic_len || alias_is(a, s->look, &s->publish);
		if (!s->publish.topic_len)
			alias_give(a, s->look, &s->publish);
	}
	bpf_spin_unlock(&c->lock);
	return known ? REASON_TAKEN : REASON_ALIAS;
}

#endif
