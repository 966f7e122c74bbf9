//go:build cgo

package hooks

import (
	"errors"
	"slices"
	"testing"
)

// planted are mistakes that the exploration must find: which one is in force is
// chosen when the copy runs, so that one copy has them all. The last ones were
// found by it.
var planted = []struct {
	name, scenario string
	edits          []edit
}{
	1: {"neither generation nor tuple checked when the device's ledgers are written", "another device gets the entry while a message is taken, XDP", []edit{
		{"admit/account.h", "taken = c->gen == s->origin.gen && ", "taken = (planted(1) || c->gen == s->origin.gen) && "}}},
	2: {"request sent without a look whether it still is this one's", "slot is dialled again and claimed while it is claimed, TC", []edit{
		{"upstream/group.h", "return request_live(sc, slot, g->slot_gen, g->first) ? 0 : -1;", "return planted(2) || request_live(sc, slot, g->slot_gen, g->first) ? 0 : -1;"},
		{"xdp/device.bpf.c", "if (!taken_live(s))", "if (!planted(2) && !taken_live(s))"}}},
	3: {"generation and number of the slot not checked when its ledgers are written", "slot is retired while it is claimed", []edit{
		{"upstream/begin.h", "if (sc->gen != gen || sc->state != CONN_OPEN) {", "if (!planted(3) && (sc->gen != gen || sc->state != CONN_OPEN)) {"},
		{"upstream/begin.h", "} else if (slot->tail != claim->number ||", "} else if ((!planted(3) && slot->tail != claim->number) ||"}}},
	4: {"generation of the device not checked when it is notified", "device reconnects while its response comes", []edit{
		{"reply/device.h", "if (dc->gen == m->origin_gen && conn_live(dc)", "if ((planted(4) || dc->gen == m->origin_gen) && conn_live(dc)"}}},
	5: {"generation of the slot not checked when a message is taken over", "message of a slot that was dialled again is taken over", []edit{
		{"control/slot.bpf.c", "if (c->gen == gen) {\n\t\tx.state = slot->state;", "if (planted(5) || c->gen == gen) {\n\t\tx.state = slot->state;"}}},
	6: {"slot not undone", "the same message twice, XDP", []edit{
		{"take/take.h", "\t\tslot_undo(sc, slot", "\t\tif (!planted(6))\n\t\t\tslot_undo(sc, slot"}}},
	7: {"sweeper's packet made of two generations", "PUBACK is repeated while the device reconnects", []edit{
		{"control/sweep_conn.h", "\t\tif (send) {\n\t\t\tconn_stamp", "\t\tif (planted(7)) {\n\t\t\tbpf_spin_unlock(&c->lock);\n\t\t\tbpf_spin_lock(&c->lock);\n\t\t}\n\t\tif (send) {\n\t\t\tconn_stamp"}}},
	8: {"nobody looks after what a pod has sent", "response that nobody asked for on a slot that nobody looks after", []edit{
		{"tc/pod_in.bpf.c", "\tattend(c, index);", "\tif (!planted(8))\n\t\tattend(c, index);"}}},
	9: {"retransmission from a buffer that is another's by now", "device repeats its message while it is answered and the slot reused", []edit{
		{"tc/device_rest.h", " || !request_live(sc, slot, gen, number))", " || (!planted(9) && !request_live(sc, slot, gen, number)))"}}},
	10: {"packet of an entry's former owner taken for the new one's", "another device gets the entry while a head is made, TC", []edit{
		{"admit/account.h", "c->tuple.remote_port == p->tuple.remote_port &&\n\t\tc->tuple.remote[3] == p->tuple.remote[3] &&", "(planted(10) || planted(1) || (c->tuple.remote_port == p->tuple.remote_port &&\n\t\tc->tuple.remote[3] == p->tuple.remote[3])) &&"}}},
	11: {"message taken over stays in flight", "response while userspace takes the message over", []edit{
		{"control/slot.bpf.c", "\tslot->head++;\n", "\tif (!planted(11))\n\t\tslot->head++;\n"}}},
	12: {"lock kept", "PUBACK is repeated while the next one is inserted", []edit{
		{"control/sweep_conn.h", "\tbpf_spin_unlock(&c->lock);\n\tif (c->state == CONN_OPEN && c->kind == CONN_DEVICE &&", "\tif (!planted(12))\n\t\tbpf_spin_unlock(&c->lock);\n\tif (c->state == CONN_OPEN && c->kind == CONN_DEVICE &&"}}},

	13: {"slot claimed by two looks", "two devices, one slot, XDP", []edit{
		{"upstream/claim.h", "(*(volatile __u64 *)&pod->idle | pod_more(pod, qos)) & bit) {\n", "(planted(13) || (*(volatile __u64 *)&pod->idle | pod_more(pod, qos)) & bit)) {\n"}}},
	14: {"buffer of a message that was taken over written to", "message is taken over while the next one is made", []edit{
		{"upstream/claim.h", " || *(volatile __u32 *)&slot->state != SLOT_IDLE)", " || (!planted(14) && *(volatile __u32 *)&slot->state != SLOT_IDLE))"}}},
	15: {"message taken over before its device's ledger has it", "slot is dialled again while it is claimed, XDP", []edit{
		{"control/slot.bpf.c", "(pod->filling & slot_bit(pod, index)))", "(pod->filling & slot_bit(pod, index)) && !planted(15))"}}},
	16: {"nobody looks after a retired slot", "slot's socket is found dead, and nothing else happens, XDP", []edit{
		{"upstream/begin.h", "\tattend(sc, index);", "\tif (!planted(16))\n\t\tattend(sc, index);"}}},
	17: {"what was taken from a segment's front passes with its end", "message between two that are cut, which its socket acknowledges, TC", []edit{
		{"tc/device_rest.h", "bare = front && ", "bare = !planted(17) && front && "}}},
	18: {"framing followed from where another processor's segment began", "cut segments in a row on two processors, TC", []edit{
		{"tc/device_rest.h", "framing_same(&d->framing, &s->began) && conn_ack_ok", "(planted(18) || framing_same(&d->framing, &s->began)) && conn_ack_ok"},
		{"tc/device_rest.h", "!s->framing.bad &&\n\t\t\t    framing_same(&d->framing, &s->began))", "!s->framing.bad &&\n\t\t\t    (planted(18) || framing_same(&d->framing, &s->began)))"},
		// what is framed wrongly seldom looks like a client's packet: that net is taken away, too
		{"mech/follow.h", "if (w->client && ", "if (!planted(18) && w->client && "}}},
	19: {"rights not looked at when a head is kept", "rights end while a message on a new topic is taken, XDP", []edit{
		{"route/route.h", "d->rights == s->admit.rights) {", "(planted(19) || d->rights == s->admit.rights)) {"}}},
	20: {"known topic outlives the rights it was judged under", "rights end while a message on a known topic is taken, TC", []edit{
		{"control/device.bpf.c", "\t\t\td->cache_version++;\n", "\t\t\tif (!planted(20))\n\t\t\t\td->cache_version++;\n"}}},
	21: {"session's end not looked at when a message is taken", "the session ends while messages are taken, TC", []edit{
		{"admit/account.h", "!(c->flags & (CONN_LOST | CONN_NO_TAKE | CONN_BROKEN)) &&\n", "!(c->flags & (CONN_LOST | (planted(21) ? 0 : CONN_NO_TAKE) | CONN_BROKEN)) &&\n"}}},
	22: {"session's end forgotten when the connection is seeded", "the session ends before its CONNACK has left, and a message comes, XDP", []edit{
		{"tc/seed.h", "if (d->stopped)", "if (!planted(22) && d->stopped)"}}},
	23: {"response that came before its request", "response that nobody asked for while a message is taken, XDP", []edit{
		{"upstream/response.h", "return seq_ge(una, m->request_seq + m->request_len);", "return planted(23) || seq_ge(una, m->request_seq + m->request_len);"}}},
	24: {"head of the old routes kept under the new epoch", "routes are exchanged while a head is made, XDP", []edit{
		{"route/route.h", "cache_fill(c, d, s, s->origin.gen, epoch)", "cache_fill(c, d, s, s->origin.gen, planted(24) ? *(volatile __u32 *)&globals_get()->epoch : epoch)"}}},
	25: {"the fallback's requests do not count", "the fallback wants the only place while a message is taken, XDP", []edit{
		{"upstream/pod.h", "	return popcount64(filling |", "	return !planted(25) && popcount64(filling |"}}},
	26: {"PUBACK for a message whose packet identifier is another's by now", "packet identifier is used again while the first message is answered", []edit{
		{"reply/device.h", "!m->qos || !ids_held(&d->ids, ids, m->hold)) {", "!m->qos || (!planted(26) && !ids_held(&d->ids, ids, m->hold))) {"}}},
	27: {"message forgotten when its PUBACK is handed to userspace", "repetition comes to the server while its original is answered and the socket sends", []edit{
		{"reply/device.h", "\t\t\thanded = true;\n", "\t\t\thanded = true;\n\t\t\tif (planted(27))\n\t\t\t\tids_release(&d->ids, ids, m->hold);\n"}}},
	28: {"PUBACK that is on its way not looked at", "repetition comes to the server while its original is answered", []edit{
		{"control/device.bpf.c", "|| conn_notifying(c, id)))", "|| (!planted(28) && conn_notifying(c, id))))"}}},
	29: {"hold not kept with its message", "repetition comes to the server while its original is taken over", []edit{
		{"take/take.h", "\tslot_message(slot, s->claim.number)->hold = hold;", "\tif (!planted(29))\n\t\tslot_message(slot, s->claim.number)->hold = hold;"}}},
	30: {"message entered before it is certain that it is taken", "the same message twice, XDP", []edit{
		{"admit/account.h", "\tone.len = len;\n", "\tone.len = len;\n\tif (planted(30))\n\t\tids_hold(&d->ids, ids, s->publish.packet_id);\n"}}},
	31: {"limit looked at before the claim can be seen", "the fallback wants the only place while a message is taken, TC", []edit{
		{"upstream/claim.h", "	__u64 filling = __sync_fetch_and_or(&pod->filling, bit);\n", "	bool early = pod_full(pod, pod->filling | bit);\n	__u64 filling = __sync_fetch_and_or(&pod->filling, bit);\n"},
		{"upstream/claim.h", "pod_full(pod, filling | bit);\n", "(planted(31) ? early : pod_full(pod, filling | bit));\n"}}},
	32: {"who waits is not told of a response", "the fallback wants a place while the response comes", []edit{
		{"upstream/response.h", "	pod_wake(HOOK_TC_POD_IN, pod);", "	if (!planted(32))\n		pod_wake(HOOK_TC_POD_IN, pod);"}}},
	33: {"who waits is not told of a place that was only tried for", "the fallback wants the only place while its slot is claimed and retired, XDP", []edit{
		{"take/take.h", "	pod_wake(hook, pod); /*", "	if (!planted(33))\n		pod_wake(hook, pod); /*"}}},
	34: {"who waits is not told of a message that was taken over", "the fallback wants a place while the message is taken over and the slot dialled again", []edit{
		{"control/slot.bpf.c", "	pod_wake(HOOK_CONTROL, pod);", "	if (!planted(34))\n		pod_wake(HOOK_CONTROL, pod);"}}},
	35: {"forgotten late, when the entry is another's", "entry is used again before its former owner is forgotten, XDP", []edit{
		{"control/conn.bpf.c", "\tif (c->gen == gen) {\n\t\tc->gen++;", "\tif (planted(35) || c->gen == gen) {\n\t\tc->gen++;"}}},
	36: {"message taken while what lies behind it is passed", "message behind a lost one, and then that one, on two processors, XDP", []edit{
		{"pure/conn_rx.h", "if (!conn_next(c, s->seq) || !(s->flags & TH_ACK)", "if ((planted(36) ? s->seq != c->rx_nxt : !conn_next(c, s->seq)) || !(s->flags & TH_ACK)"}}},
	37: {"bit cleared after the look", "the sweeper looks at a slot while a message is taken, XDP", []edit{
		{"control/sweep.bpf.c", "\told = __sync_fetch_and_and(bits, ~bit);\n\topaque(old);\n\tif (sweep_conn(conn, ctx->now_ms)) {", "\told = planted(37) ? 0 : __sync_fetch_and_and(bits, ~bit);\n\topaque(old);\n\tif (planted(37) && (old = sweep_conn(conn, ctx->now_ms), !old))\n\t\t__sync_fetch_and_and(bits, ~bit);\n\telse if (planted(37) || sweep_conn(conn, ctx->now_ms)) {"}}},
	38: {"connection said to have its bit when that is cleared", "the sweeper looks at a slot while a message is taken, XDP", []edit{
		{"control/sweep_conn.h", "\tc->attended = sweep_again(c, slot);\n\tagain = afresh(c->attended);\n", "\tagain = sweep_again(c, slot);\n\tif (planted(44))\n\t\tagain = early;\n\tif (!planted(38))\n\t\tc->attended = again;\n"}}},
	39: {"nobody looks after a PUBACK that was inserted", "the sweeper stops while the response comes", []edit{
		{"reply/device.h", "kind == DONE_RESPONSE);\n\tattend(dc, device);", "kind == DONE_RESPONSE);\n\tif (!planted(39))\n\t\tattend(dc, device);"}}},
	40: {"nobody looks after a request in flight", "the sweeper stops while a message is taken, XDP", []edit{
		{"take/take.h", "\tattend(sc, s->claim.slot);", "\tif (!planted(40) && !planted(42))\n\t\tattend(sc, s->claim.slot);"}}},
	41: {"timer stops without another look", "the sweeper stops while a message is taken, XDP", []edit{
		{"control/sweep.bpf.c", "return !ctx.any || ", "return planted(41) || !ctx.any || "}}},
	42: {"looked at before the request is begun", "the sweeper looks at a slot while a message is taken, XDP", []edit{
		{"take/take.h", "\treason = slot_begin(hook, sc, slot, pod, &s->claim, &order, &s->frame, now);", "\tif (planted(42))\n\t\tattend(sc, s->claim.slot);\n\treason = slot_begin(hook, sc, slot, pod, &s->claim, &order, &s->frame, now);"}}},
	43: {"nobody looks after what a message that was taken over acknowledges", "message of a slot is taken over, and nothing else happens", []edit{
		{"reply/device.h", "\tif (slot != NO_INDEX)\n\t\tattend(dc, device);", "\tif (slot != NO_INDEX && !planted(43))\n\t\tattend(dc, device);"}}},
	44: {"what a slot needs looked at before its lock is held", "the sweeper looks at a slot while a message is taken, XDP", []edit{
		{"control/sweep_conn.h", "\ts->pubacks.len = 0;\n", "\tint early = sweep_again(c, slot);\n\ts->pubacks.len = 0;\n"}}},
	45: {"bit not set again", "PUBACK is repeated while the next one is inserted", []edit{
		{"control/sweep.bpf.c", "\t\told = __sync_fetch_and_or(bits, bit);", "\t\told = planted(45) ? 0 : __sync_fetch_and_or(bits, bit);"}}},
	46: {"timer not started by a bit", "the sweeper stops while a message is taken, XDP", []edit{
		{"mech/attention.h", "if (*(volatile __u32 *)&w->stopped && ", "if (!planted(46) && *(volatile __u32 *)&w->stopped && "}}},
	47: {"who frees a slot does not look for messages that wait", "message is parked while the response comes", []edit{
		{"tc/pod_in.bpf.c", "	if (q && *(volatile __u32 *)&q->count)\n", "	if (!planted(47) && q && *(volatile __u32 *)&q->count)\n"}}},
	48: {"who parks a message does not look for a slot behind that", "message is parked while the response comes", []edit{
		{"take/burst.h", "		if (i >= afresh(s->taking.queue_count))\n			break;\n		unpark_all", "		if (planted(48) || i >= afresh(s->taking.queue_count))\n			break;\n		unpark_all"}}},
	49: {"message that waits sent by two", "two responses come while messages wait", []edit{
		{"upstream/unpark.h", "	n = parking_pop(k, q, family & (PARK_FAMILIES - 1), false);\n	bpf_spin_unlock(&k->lock);\n	e = parked_entry(n);\n	s->unpark.reason", "	n = planted(49) ? parking_peek(k, q, family) : parking_pop(k, q, family & (PARK_FAMILIES - 1), false);\n	bpf_spin_unlock(&k->lock);\n	e = parked_entry(n);\n	s->unpark.reason"}}},
	50: {"message that a slot did not take is forgotten", "slot's socket is found dead when a message that waits is to leave", []edit{
		{"upstream/unpark.h", "	} else if (reason) {\n		parking_push_back(", "	} else if (reason && !planted(50)) {\n		parking_push_back("}}},
	51: {"hold lost while the message waited", "two responses come while messages wait", []edit{
		{"upstream/unpark.h", ".hold = e->message.hold,", ".hold = planted(51) ? HOLD_NONE : e->message.hold,"}}},
	52: {"message that waited stays in flight when userspace takes it", "userspace takes what waits while the response comes and a message is parked", []edit{
		{"reply/device.h", "		if (dc->in_flight)\n			dc->in_flight--;\n	}\n", "		if (!planted(52) && dc->in_flight)\n			dc->in_flight--;\n	}\n"},
		{"reply/device.h", "	if (dc->gen == m->origin_gen) {", "	if (planted(53) || dc->gen == m->origin_gen) {"}}},
	53: {"generation of the client not checked when userspace takes its message", "another client gets the entry while userspace takes its message that waits", nil},
	54: {"room for a message that was not parked after all", "the same message is parked twice while the response comes", []edit{
		{"take/park.h", "		parking_cancel(k, q, n);", "		if (!planted(54))\n			parking_cancel(k, q, n);"}}},
	55: {"the sweeper's bit of a queue cleared after the look", "the sweeper looks at a queue while a message is parked", []edit{
		{"control/sweep.bpf.c", "	old = __sync_fetch_and_and(&k->attended[at], ~(1ull << bit));\n	opaque(old);\n	if (sweep_parked(at * 64 + bit, ctx->now_ms)) {", "	old = planted(55) ? 0 : __sync_fetch_and_and(&k->attended[at], ~(1ull << bit));\n	opaque(old);\n	if (planted(55) && !sweep_parked(at * 64 + bit, ctx->now_ms)) {\n		__sync_fetch_and_and(&k->attended[at], ~(1ull << bit));\n	} else if (planted(55) || sweep_parked(at * 64 + bit, ctx->now_ms)) {"}}},
	56: {"nobody looks after a claim in vain while a message is parked", "the same message is parked twice while the response comes", []edit{
		{"take/burst.h", "	if (afresh(s->taking.vain))\n", "	if (!planted(56) && afresh(s->taking.vain))\n"}}},
	57: {"nobody looks after a client whose message waits", "messages of one segment are parked while the response comes", []edit{
		{"take/park.h", "	attend(c, conn);", "	if (!planted(57))\n		attend(c, conn);"}}},
	58: {"nobody looks after what waits", "pod drains while a message is parked and the response comes", []edit{
		{"take/park.h", "	park_attend(k, fn->queue);", "	if (!planted(58))\n		park_attend(k, fn->queue);"}}},
	59: {"what is in flight looked at before the pod is seen to sleep", "pod is put to sleep while a message is taken, XDP", []edit{
		{"control/pod.bpf.c", "	case POD_OP_REST:\n", "	case POD_OP_REST:;\n		bool early = pod_needed(pod);\n"},
		{"control/pod.bpf.c", "		if (pod_needed(pod)) {\n", "		if (planted(59) ? early : pod_needed(pod)) {\n"}}},
	60: {"pod looked at before its message can be seen", "pod is put to sleep while a message is taken, TC", []edit{
		{"upstream/claim.h", "	__u64 filling = __sync_fetch_and_or(&pod->filling, bit);\n", "	__u32 sleeps = *(volatile __u32 *)&pod->sleep;\n	__u64 filling = __sync_fetch_and_or(&pod->filling, bit);\n"},
		{"upstream/begin.h", "	if (!reason)\n		pod_rouse(hook, pod);", "	if (!reason && (!planted(60) || pod->path_ms))\n		pod_rouse(hook, pod);"},
		{"upstream/claim.h", "	if (filling & bit)\n		return SLOT_LOST;\n", "	if (filling & bit)\n		return SLOT_LOST;\n	pod->path_ms = sleeps;\n"}}},
	61: {"the fallback's requests overlooked by who puts a pod to sleep", "pod is put to sleep while the fallback wants a place", []edit{
		{"control/pod.bpf.c", "	return used || *(volatile __u32 *)&pod->fallback ||", "	return used || (!planted(61) && *(volatile __u32 *)&pod->fallback) ||"}}},
	62: {"each message wakes the pod", "pod that sleeps gets two messages at once, XDP", []edit{
		{"upstream/pod.h", "__sync_val_compare_and_swap(&pod->sleep, POD_ASLEEP, POD_WAKING) != POD_ASLEEP)\n		return;", "(__sync_val_compare_and_swap(&pod->sleep, POD_ASLEEP, POD_WAKING) != POD_ASLEEP && !planted(62)))\n		return;"}}},
	63: {"pod that could not be put to sleep stays so", "pod is put to sleep while a message is taken, XDP", []edit{
		{"control/pod.bpf.c", "			old = __sync_lock_test_and_set(&pod->sleep, POD_AWAKE);\n			opaque(old);\n			ok = 0;", "			old = planted(63) ? 0 : __sync_lock_test_and_set(&pod->sleep, POD_AWAKE);\n			opaque(old);\n			ok = 0;"}}},
	64: {"two processors work with what is kept", "halves of two clients, at once", []edit{
		{"admit/keep.h", "	return !old;", "	return planted(64) || !old;"}}},
	65: {"another client's beginning taken for its own", "another client's half is kept in its place, and its rest comes", []edit{
		{"admit/keep.h", "	if (k->conn != conn || k->gen", "	if ((!planted(65) && k->conn != conn) || k->gen"}}},
	66: {"what is kept counted as the packet's", "what follows the rest is cut, too, and passes", []edit{
		{"admit/keep.h", "		p->front -= len;", "		if (!planted(66))\n			p->front -= len;"}}},
	67: {"what was kept is never free again", "two halves on two processors", []edit{
		{"admit/keep.h", "	d->kept = 0;\n	k->len = 0;\n	kept_release(k);", "	d->kept = 0;\n	k->len = 0;\n	if (!planted(67))\n		kept_release(k);"}}},
	68: {"what is kept is acknowledged", "two halves on two processors", []edit{
		{"admit/keep.h", "	if (ok)\n		d->kept = 1;", "	if (ok && planted(68)) {\n		conn_remove(c, &s->packet.seg);\n		ledger_removed(&c->rx);\n	}\n	if (ok)\n		d->kept = 1;"}}},
	69: {"half of a fixed header kept as if its message were as long as the one before", "half of a fixed header, and the rest", []edit{
		{"admit/publish.h", "	s->publish.length = 0;\n", "	if (!planted(69))\n		s->publish.length = 0;\n"},
		{"pure/mqtt.h", "	p->length = 0;\n", "	if (!planted(69))\n		p->length = 0;\n"}}},
	70: {"what was kept passes for another generation", "client reconnects while the rest comes", []edit{
		{"admit/keep.h", "	same = c->gen == k->gen;", "	same = planted(70) || c->gen == k->gen;"}}},
	71: {"what was kept looked for in the packet", "half that is kept comes again while its rest comes", []edit{
		{"tc/device_in.bpf.c", "if (!large && (afresh(s->admit.kept) || ", "if (!large && ((!planted(71) && afresh(s->admit.kept)) || "},
		{"tc/device_in.bpf.c", "	if (!afresh(s->admit.kept)) /*", "	if (planted(71) || !afresh(s->admit.kept)) /*"}}},
	72: {"copy of a message that was not taken", "the same message twice, XDP, with copies", []edit{
		{"take/copy.h", "		bpf_ringbuf_discard(e, BPF_RB_FORCE_WAKEUP);\n		return reason;", "		if (planted(72))\n			bpf_ringbuf_submit(e, 0);\n		else\n			bpf_ringbuf_discard(e, BPF_RB_FORCE_WAKEUP);\n		return reason;"}}},
	73: {"message taken though its copy has no room", "ring of copies is full when a message is taken", []edit{
		{"take/copy.h", "	if (!e)\n		return REASON_COPIES_FULL;", "	if (!e)\n		return planted(73) ? take_settle(c, d, s, bpf_ktime_get_ns(), s->copying.who, s->copying.done, &hold) : REASON_COPIES_FULL;"}}},
	74: {"what the server has not looked at before a copy is made", "message of an also_broker route behind one that the server has", []edit{
		{"take/copy.h", "	if (!device_clear(conn))", "	if (!planted(74) && !device_clear(conn))"}}},
	75: {"request stays though its message's copy has no room", "ring of copies is full when a message is taken", []edit{
		{"take/take.h", "	if (reason) {\n		", "	if (reason && planted(75))\n		return reason;\n	if (reason) {\n		"}}},
	76: {"message parked without its copy", "messages of one segment are parked while the response comes, with copies", []edit{
		{"take/park.h", "	if (s->routed.copy)\n", "	if (!planted(76) && s->routed.copy)\n"}}},
	77: {"topic that is remembered forgets its subscribers", "the session ends while messages are taken, TC, with copies", []edit{
		{"route/route.h", "d->cache_flags & CACHE_COPY;", "planted(77) ? 0 : d->cache_flags & CACHE_COPY;"}}},
	78: {"alias counts while what changes it is unread", "alias is used while the server reads what changes it, XDP", []edit{
		{"pure/alias.h", "	return !d->alias_unread &&", "	return (planted(78) || !d->alias_unread) &&"}}},
	79: {"alias counts when something before what changes it is read", "alias is changed once more while the server reads what changes it, TC", []edit{
		{"pure/alias.h", "	if (seq_ge(at, d->alias_end))", "	if (planted(79) || seq_ge(at, d->alias_end))"}}},
	80: {"topic beside an alias not compared", "alias is changed, and used on another processor, TC", []edit{
		{"pure/alias.h", "	return !differ;", "	return planted(80) || !differ;"}}},
	81: {"what a cut hides taken for no topic", "alias is changed behind a cut, and used, XDP", []edit{
		{"mech/follow.h", "return w->off + sizeof(len) > w->end || ", "if (planted(81) && w->off + sizeof(len) > w->end)\n\t\treturn false;\n\treturn w->off + sizeof(len) > w->end || "}}},
	82: {"no topic looked for in what passes", "alias is changed, and used on another processor, TC", []edit{
		{"tc/device_rest.h", "if (framed && s->framing.topics)", "if (!planted(82) && framed && s->framing.topics)"}}},
	83: {"alias of an entry's former owner taken for the new one's", "server says late what an alias of an entry's former owner stands for, XDP", []edit{
		{"control/alias.bpf.c", "	if (c->gen == gen) {", "	if (planted(83) || c->gen == gen) {"}}},
	84: {"record that is discarded wakes nobody", "the same message twice, XDP, with copies", []edit{
		{"take/copy.h", "			bpf_ringbuf_discard(e, BPF_RB_FORCE_WAKEUP);\n		return reason;", "			bpf_ringbuf_discard(e, planted(84) ? BPF_RB_NO_WAKEUP : BPF_RB_FORCE_WAKEUP);\n		return reason;"}}},
}

// plantedEffort is more than any mistake has needed: the search ends when it is found.
var plantedEffort = effort{pairs: 4000, random: 1000}

// TestPlantedMistakesAreFound shows that the exploration finds mistakes.
func TestPlantedMistakesAreFound(t *testing.T) {
	var edits []edit
	for _, p := range planted {
		edits = append(edits, p.edits...)
	}
	m := mustBuild(t, edits...)
	byName := map[string]scenario{}
	for _, s := range slices.Concat(scenarios, parkScenarios, sleepScenarios, keepScenarios, copyScenarios, aliasScenarios) {
		byName[s.name] = s
	}
	for i, p := range planted {
		if i == 0 {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			m.c.planted = 0
			s, ok := byName[p.scenario]
			if !ok {
				t.Fatalf("no scenario %q", p.scenario)
			}
			e := newExplorer(m, s)
			m.c.planted = u32(i)
			defer func() { m.c.planted = 0 }()
			err := e.all(plantedEffort)
			if err == nil {
				t.Fatalf("not found in %d interleavings", e.runs)
			}
			var f *failure
			if errors.As(err, &f) {
				err = f.err
			}
			t.Logf("found after %d interleavings: %.200v", e.runs, err)
		})
	}
}
