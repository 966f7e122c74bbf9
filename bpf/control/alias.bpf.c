/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* alias.bpf.c - what userspace knows of a client's topic aliases. */
#include "../mech/entries.h"
#include "../pure/alias.h"

/*
 * The server has read what a topic alias of a client stands for (struct alias_args). It runs this before it says that it has read so
 * far (DEVICE_OP_BOUNDARY): until then nothing of the table is used.
 */
SEC("syscall")
int alias_control(struct alias_args *a)
{
	__u32 index = a->conn, gen = a->gen, n = a->alias, len = a->len, ok = 0;
	__u64 topic[TOPIC_MAX / 8];
	struct alias_table *t;
	struct alias *to;
	struct device *d;
	struct conn *c;

	c = conn_entry(index);
	if (!c || index < knob_slots || !within(n, 1, ALIASES_MAX) || len > TOPIC_MAX)
		return 0;
	d = device_entry(index);
	t = alias_table_entry(index);
	if (!d || !t)
		return 0;
	memcpy(topic, a->topic, sizeof(topic));
	to = alias_at(t, n);
	bpf_spin_lock(&c->lock);
	if (c->gen == gen) {
		to->len = len;
		memcpy(to->topic, topic, sizeof(topic));
		alias_set(d, n, len);
		ok = 1;
	}
	bpf_spin_unlock(&c->lock);
	a->ok = ok;
	return 0;
}
