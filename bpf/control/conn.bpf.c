/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* conn.bpf.c - what userspace changes of any connection, atomically. */
#include "../admit/room.h"

/*
 * What the programs build for a connection bears these link addresses from now on
 * (struct link_args): its neighbour, or the interface, has another one. An armed
 * connection gets those of the packet that seeds it.
 */
SEC("syscall")
int link_control(struct link_args *a)
{
	__u32 index = a->conn, gen = a->gen, ok = 0;
	struct conn *c = conn_entry(index);
	__u8 dst[6], src[6];

	if (!c)
		return 0;
	memcpy(dst, a->dst_mac, 6);
	memcpy(src, a->src_mac, 6);
	bpf_spin_lock(&c->lock);
	if (c->gen == gen && conn_live(c)) {
		memcpy(c->dst_mac, dst, 6);
		memcpy(c->src_mac, src, 6);
		ok = 1;
	}
	bpf_spin_unlock(&c->lock);
	a->ok = ok;
	return 0;
}

/*
 * The connection of this generation has no packet identifiers under way any more: its table is emptied, and
 * another connection's. After conn_free nobody enters one.
 */
static __always_inline void device_forget_ids(__u32 index, __u32 gen)
{
	struct device *d = device_entry(index);
	struct conn *c = conn_entry(index);
	struct id_table *t;
	bool had;

	if (!d || !c || d->gen != gen)
		return;
	t = device_table(d);
	if (!t)
		return;
	bpf_spin_lock(&c->lock);
	had = ids_has(&d->ids, t);
	if (had)
		d->ids.table = 0;
	bpf_spin_unlock(&c->lock);
	if (!had)
		return;
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < IDS_TABLE; i++)
	{
		*(volatile __u16 *)&t->ids[i] = 0; /* as it stands: there is no memset of this size */
	}
	t->count = 0;
	__sync_fetch_and_and(&t->taken, 0);
}

/*
 * Forgets a connection (struct free_args): nothing of it is translated any more. Who
 * is late harms nobody: a generation ends once.
 */
SEC("syscall")
int conn_free(struct free_args *a)
{
	__u32 index = a->conn, gen = a->gen, ok = 0;
	struct conn *c = conn_entry(index);

	if (!c)
		return 0;
	bpf_spin_lock(&c->lock);
	if (c->gen == gen) {
		c->gen++;
		c->state = CONN_FREE;
		c->flags = 0;
		c->in_flight = 0;
		ok = 1;
	}
	bpf_spin_unlock(&c->lock);
	if (index >= knob_slots)
		device_forget_ids(index, gen);
	a->ok = ok;
	return 0;
}
