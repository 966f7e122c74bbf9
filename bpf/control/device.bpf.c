/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* device.bpf.c - what userspace changes of a client's connection, atomically. */
#include "../admit/room.h"
#include "../pure/alias.h"
#include "../mech/verdict.h"

/*
 * Userspace has read so many bytes, to a packet's end, and knows what topic aliases stand for there. Whether the programs had lost track, and that is where the
 * stream stands. Under the lock.
 */
static __always_inline bool device_found(struct conn *c, struct device *d, __u32 read)
{
	if (c->state != CONN_OPEN)
		return false;
	alias_read(d, d->anchor + read);
	if (!conn_boundary(c, d->anchor + read) || !(c->flags & CONN_LOST))
		return false;
	c->flags &= ~CONN_LOST;
	memset(&d->framing, 0, sizeof(d->framing));
	return true;
}

/* Messages of ordered and also_broker routes that follow what userspace has read may be taken, if nothing else was passed meanwhile. Under the lock. */
static __always_inline bool device_clears(struct conn *c, const struct device *d, __u32 read)
{
	if (c->state != CONN_OPEN || !conn_boundary(c, d->anchor + read))
		return false;
	c->rx_clear = d->anchor + read;
	c->flags |= CONN_CLEAR;
	return true;
}

/* Userspace has got a QoS 1 message: *hold is its own on the packet identifier, unless it repeats one under way. Returns whether it does. Under the lock. */
static __always_inline bool device_hold(struct conn *c, struct device *d, struct id_table *ids, __u16 id, bool dup,
					__u32 *hold)
{
	if (dup && (ids_find(&d->ids, ids, id) != IDS_NONE || conn_notifying(c, id)))
		return true;
	*hold = ids_hold(&d->ids, ids, id);
	return false;
}

/*
 * Changes what the programs may do with a client's connection (struct
 * device_args). A message that is just being taken by another processor is taken
 * before this, or not at all: takes are decided under the same lock, where they
 * look at everything that is changed here. The cached topic was judged under the
 * rights of before.
 */
SEC("syscall")
int device_control(struct device_args *a)
{
	__u32 index = a->conn, gen = a->gen, op = a->op, read = a->read, rights = a->rights;
	struct conn *c = conn_entry(index);
	__u32 ok = 0, repeated = 0, hold = op == DEVICE_OP_RELEASE ? a->hold : HOLD_NONE;
	__u16 id = a->packet_id, dup = a->dup;
	struct id_table *ids;
	__u64 taken = 0;
	struct device *d;

	if (!c || index < knob_slots)
		return 0;
	d = device_entry(index);
	if (!d)
		return 0;
	if (op == DEVICE_OP_HOLD)
		device_id_room(index, gen, id);
	ids = device_table(d);
	bpf_spin_lock(&c->lock);
	if (c->gen == gen) {
		switch (op) {
		case DEVICE_OP_BOUNDARY:
			ok = device_found(c, d, read);
			break;
		case DEVICE_OP_RIGHTS:
			d->rights = rights;
			d->cache_epoch = 0;
			d->cache_version++;
			ok = 1;
			break;
		case DEVICE_OP_STOP:
			c->flags |= CONN_NO_TAKE;
			d->stopped = 1;
			ok = 1;
			break;
		case DEVICE_OP_HOLD:
			repeated = device_hold(c, d, ids, id, dup, &hold);
			ok = 1;
			break;
		case DEVICE_OP_CLEAR:
			ok = device_clears(c, d, read);
			break;
		case DEVICE_OP_BEHIND:
			c->flags &= ~CONN_CLEAR;
			ok = 1;
			break;
		case DEVICE_OP_RELEASE:
			ok = ids_release(&d->ids, ids, hold);
			break;
		}
		taken = d->taken;
	}
	bpf_spin_unlock(&c->lock);
	if (ok && op == DEVICE_OP_BOUNDARY)
		count(HOOK_CONTROL, REASON_RESYNC);
	if (repeated)
		count(HOOK_CONTROL, REASON_REPEATED);
	a->ok = ok;
	a->repeated = repeated;
	a->hold = hold;
	a->taken = taken;
	return 0;
}
