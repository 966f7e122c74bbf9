//go:build cgo

package native

/*
#cgo CFLAGS: -O2 -Wall -Wextra -Wno-unused-function -Wno-unused-parameter -Wno-unknown-pragmas -I${SRCDIR}
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
#include "shim.h"

static const struct shim *own_table(void) { return &shim_table; }

static const struct shim *open_table(const char *path)
{
	void *h = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	const struct shim *(*f)(void);

	if (!h)
		return NULL;
	f = (const struct shim *(*)(void))dlsym(h, "eproxy_shim");
	return f ? f() : NULL;
}

static int call_rx(const struct shim *t, struct conn *c, const struct segment *s, struct rx_verdict *v, __u32 now)
{
	return t->rx(c, s, v, now);
}

static void call_tx(const struct shim *t, struct conn *c, const struct segment *s, const __u8 *payload,
		    struct tx_verdict *v, __u32 now)
{
	t->tx(c, s, payload, v, now);
}

static void call_stamp(const struct shim *t, struct conn *c, struct stamp *s) { t->stamp(c, s); }
static int call_rx_full(const struct shim *t, struct conn *c, __u32 limit) { return t->rx_full(c, limit); }
static int call_can_insert(const struct shim *t, struct conn *c, __u32 len) { return t->can_insert(c, len); }

static __u32 call_insert(const struct shim *t, struct conn *c, __u32 len, __u32 now)
{
	return t->insert(c, len, now);
}

static int call_uninsert(const struct shim *t, struct conn *c, __u32 seq, __u32 len)
{
	return t->uninsert(c, seq, len);
}

static __u32 call_front(const struct shim *t, struct conn *c, const struct segment *s) { return t->front(c, s); }
static void call_compact(const struct shim *t, struct conn *c) { t->compact(c); }
static int call_caught_up(const struct shim *t, struct conn *c) { return t->caught_up(c); }

static void call_seed(const struct shim *t, struct conn *c, __u32 nxt, __u32 queued) { t->seed(c, nxt, queued); }
static int call_next(const struct shim *t, const struct conn *c, __u32 seq) { return t->next(c, seq); }
static int call_follow(const struct shim *t, struct conn *c, __u32 have) { return t->follow(c, have); }
static int call_boundary(const struct shim *t, struct conn *c, __u32 at) { return t->boundary(c, at); }
static __u32 call_dups(const struct shim *t, struct conn *c) { return t->dups(c); }

static int call_quoted(const struct shim *t, struct conn *c, __u32 seq, __u32 *kernel)
{
	return t->quoted(c, seq, kernel);
}

static int call_absorb(const struct shim *t, struct conn *c, const struct segment *s, struct rx_verdict *v, __u32 now)
{
	return t->absorb(c, s, v, now);
}

static int call_done(const struct shim *t, struct conn *c, __u32 slot, __u32 seq)
{
	return t->done(c, slot, seq);
}

static void call_taken(const struct shim *t, struct conn *c, __u32 slot, __u32 state)
{
	t->taken(c, slot, state);
}

static void call_responses(const struct shim *t, const __u8 *b, __u32 len, struct responses *a, struct http *h)
{
	t->responses(b, len, a, h);
}

static int call_recovery_ack(const struct shim *t, struct recovery *r, const struct conn *c, const struct segment *s)
{
	return t->recovery_ack(r, c, s);
}

static void call_recovery_measure(const struct shim *t, struct recovery *r, struct conn *c, __s32 ms, int bare)
{
	t->recovery_measure(r, c, ms, bare);
}

static __u32 call_recovery_due(const struct shim *t, const struct recovery *r, const struct conn *c, __u32 sent)
{
	return t->recovery_due(r, c, sent);
}

static void call_recovery_expire(const struct shim *t, struct recovery *r, const struct conn *c)
{
	t->recovery_expire(r, c);
}

static int call_recovery_missing(const struct shim *t, const struct conn *c, __u32 sent, __u32 now)
{
	return t->recovery_missing(c, sent, now);
}

static int call_recovery_far(const struct shim *t, const struct conn *c)
{
	return t->recovery_far(c);
}

static __u32 call_line(const struct shim *t, struct parking *p, struct queue *q, __u32 op, struct shim_line_args *a)
{
	return t->line(p, q, op, a);
}
static __u32 call_park(const struct shim *t, struct parking *p, struct queue *q, __u32 op, __u32 client, __u32 n, __u32 ms)
{
	return t->park(p, q, op, client, n, ms);
}

static void call_sack(const struct shim *t, struct conn *c, struct sack *k, int received, __u32 kack, __u32 ack)
{
	t->sack(c, k, received, kack, ack);
}

static int call_loss(const struct shim *t, struct conn *c, const struct segment *s, struct sack *k, struct pubacks *p,
		     __u32 now)
{
	return t->loss(c, s, k, p, now);
}

static __u32 call_overdue(const struct shim *t, struct conn *c, struct pubacks *p, __u32 more, __u32 now)
{
	return t->overdue(c, p, more, now);
}

static int call_publish(const __u8 *buf, __u32 len, __u32 version, struct publish *p)
{
	return mqtt_publish(buf, len, version, p);
}

// As the hooks do: the whole name, then no sequence left open.
static int call_topic_ok(const __u8 *b, __u32 len)
{
	struct utf8 u = {};

	for (__u32 i = 0; i < len; i++)
		if (!utf8_step(&u, b[i]))
			return 0;
	return !u.want;
}

static int call_properties(const __u8 *raw, __u32 len, struct properties *q) { return properties_scan(raw, len, q); }
static int call_token(__u8 b) { return token_byte(b); }

// As the request's writer does: word by word.
static int call_plain(const __u8 *b, __u32 len)
{
	for (__u32 i = 0; i < len; i += 8) {
		__u64 w = 0;

		memcpy(&w, b + i, len - i < 8 ? len - i : 8);
		if (!text_plain(w, len - i < 8 ? len - i : 8))
			return 0;
	}
	return 1;
}

static int call_filter(const struct shim *t, const struct tracing *f, const __u8 *buf, __u32 len, struct publish *p)
{
	return t->filter(f, buf, len, p);
}

static void call_framing(struct framing *w, const __u8 *b, __u32 len) { shim_framing(w, b, len); }
static int call_goes_on(__u8 first) { return framing_goes_on(first); }
static int call_at_boundary(const struct framing *w) { return framing_at_boundary(w); }

static __u32 call_ids(const struct shim *t, struct ids *ids, struct id_table *table, __u32 op, __u32 arg) { return t->ids(ids, table, op, arg); }
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// The C types, as Go sees them. All sequence numbers are in host byte order.
type (
	// Conn is struct conn: the state of one grafted TCP connection.
	Conn = C.struct_conn
	// Segment is struct segment: what the state machine knows of a segment.
	Segment = C.struct_segment
	// RxVerdict is struct rx_verdict: what to do with a received segment.
	RxVerdict = C.struct_rx_verdict
	// TxVerdict is struct tx_verdict: what to do with a sent segment.
	TxVerdict = C.struct_tx_verdict
	// Stamp is struct stamp: header fields of a segment that the program sends.
	Stamp = C.struct_stamp
	// Graft is struct graft: bytes removed from or inserted into a stream.
	Graft = C.struct_graft
	// Ledger is struct ledger: the grafts of one direction that are not settled.
	Ledger = C.struct_ledger
	// Publish is struct publish: the head of a PUBLISH packet.
	Publish = C.struct_publish
	// Properties is struct properties: the MQTT 5 properties of a PUBLISH.
	Properties = C.struct_properties
	// Responses is struct responses: how far a segment's responses were read.
	Responses = C.struct_responses
	// HTTP is struct http: the head of the response that was read last.
	HTTP = C.struct_http
	// Sack is struct sack: a TCP header's options with selective acknowledgements.
	Sack = C.struct_sack
	// Pubacks is struct pubacks: PUBACKs that are sent again in one segment.
	Pubacks = C.struct_pubacks
	// Framing is struct framing: the state of following MQTT framing.
	Framing = C.struct_framing
	// Recovery is struct recovery: losses among what a slot has in flight.
	Recovery = C.struct_recovery
	// Parking is struct parking: all messages that wait.
	Parking = C.struct_parking
	// Queue is struct queue: those of one function.
	Queue = C.struct_queue
	// IDs is struct ids: packet identifiers of messages under way.
	IDs = C.struct_ids
	// IDTable is struct id_table: those that there is no room for in IDs.
	IDTable = C.struct_id_table

	u8  = C.__u8
	u16 = C.__u16
	u32 = C.__u32
)

// Constants of the headers.
const (
	Ring   = C.LEDGER_RING
	Look   = C.MQTT_LOOK
	TopicN = C.TOPIC_MAX

	IDsMax      = C.IDS_MAX
	IDsInTable  = C.IDS_TABLE
	HoldOutside = C.HOLD_OUTSIDE
	HoldShift   = C.HOLD_SHIFT

	RxPass      = C.RX_PASS
	RxPassRaw   = C.RX_PASS_RAW
	RxAbsorb    = C.RX_ABSORB
	RxRemove    = C.RX_REMOVE
	RxAck       = C.RX_ACK
	RxResend    = C.RX_RESEND
	RxReinject  = C.RX_REINJECT
	RxChallenge = C.RX_CHALLENGE
	RxDrop      = C.RX_DROP

	ConnOpen   = C.CONN_OPEN
	ConnClosed = C.CONN_CLOSED
	KindDevice = C.CONN_DEVICE
	KindSlot   = C.CONN_SLOT

	FlagFinSent = C.CONN_FIN_SENT
	FlagFinSeen = C.CONN_FIN_SEEN
	FlagBroken  = C.CONN_BROKEN
	FlagLost    = C.CONN_LOST
	FlagRstSent = C.CONN_RST_SENT
	FlagPassed  = C.CONN_PASSED
	FlagSack    = C.CONN_SACK

	GraftOpen = C.GRAFT_OPEN
	GraftDone = C.GRAFT_DONE
	GraftMax  = C.GRAFT_MAX

	FIN = C.TH_FIN
	SYN = C.TH_SYN
	RST = C.TH_RST
	PSH = C.TH_PSH
	ACK = C.TH_ACK

	ReasonTaken      = C.REASON_TAKEN
	ReasonNotPublish = C.REASON_NOT_PUBLISH
	ReasonQoS2       = C.REASON_QOS2
	ReasonRetain     = C.REASON_RETAIN
	ReasonPartial    = C.REASON_PARTIAL
	ReasonMalformed  = C.REASON_MALFORMED
	ReasonProperties = C.REASON_PROPERTIES
	ReasonTopicLong  = C.REASON_TOPIC_LONG
	ReasonPacketID   = C.REASON_PACKET_ID
	ReasonDup        = C.REASON_DUP

	ReasonPropertiesLong = C.REASON_PROPERTIES_LONG

	PropertiesMax = C.PROPERTIES_MAX
	UsersMax      = C.USERS_MAX
)

// Table is one compiled copy of conn.h.
type Table struct{ t *C.struct_shim }

// Own returns the headers as they are in the source tree.
func Own() *Table { return &Table{t: (*C.struct_shim)(unsafe.Pointer(C.own_table()))} }

// Open loads a copy from a shared object that defines eproxy_shim. It is never
// unloaded.
func Open(path string) (*Table, error) {
	p := C.CString(path)
	defer C.free(unsafe.Pointer(p))
	t := C.open_table(p)
	if t == nil {
		return nil, fmt.Errorf("open %s: %s", path, C.GoString(C.dlerror()))
	}
	return &Table{t: (*C.struct_shim)(unsafe.Pointer(t))}, nil
}

// Rx is conn_rx; it returns an RxAction.
func (t *Table) Rx(c *Conn, s *Segment, v *RxVerdict, now uint32) int {
	return int(C.call_rx(t.t, c, s, v, u32(now)))
}

// Tx is conn_tx, with the framing of the payload followed.
func (t *Table) Tx(c *Conn, s *Segment, payload []byte, v *TxVerdict, now uint32) {
	C.call_tx(t.t, c, s, (*u8)(unsafe.SliceData(payload)), v, u32(now))
}

// Front is conn_front.
func (t *Table) Front(c *Conn, s *Segment) uint32 { return uint32(C.call_front(t.t, c, s)) }

// Compact is ledger_compact of the receive direction.
func (t *Table) Compact(c *Conn) { C.call_compact(t.t, c) }

// CaughtUp is conn_caught_up.
func (t *Table) CaughtUp(c *Conn) bool { return C.call_caught_up(t.t, c) != 0 }

// Seed is conn_seed.
func (t *Table) Seed(c *Conn, rcvNxt, queued uint32) { C.call_seed(t.t, c, u32(rcvNxt), u32(queued)) }

// Next is conn_next.
func (t *Table) Next(c *Conn, seq uint32) bool { return C.call_next(t.t, c, u32(seq)) != 0 }

// Follow is conn_follow.
func (t *Table) Follow(c *Conn, have uint32) bool { return C.call_follow(t.t, c, u32(have)) != 0 }

// Boundary is conn_boundary.
func (t *Table) Boundary(c *Conn, at uint32) bool { return C.call_boundary(t.t, c, u32(at)) != 0 }

// Dups is conn_dups.
func (t *Table) Dups(c *Conn) int { return int(C.call_dups(t.t, c)) }

// Quoted is conn_quoted.
func (t *Table) Quoted(c *Conn, seq uint32) (kernel uint32, flying bool) {
	var k u32
	flying = C.call_quoted(t.t, c, u32(seq), &k) != 0
	return uint32(k), flying
}

// Absorb is conn_absorb.
func (t *Table) Absorb(c *Conn, s *Segment, v *RxVerdict, now uint32) bool {
	return C.call_absorb(t.t, c, s, v, u32(now)) != 0
}

// Stamp is conn_stamp.
func (t *Table) Stamp(c *Conn, s *Stamp) { C.call_stamp(t.t, c, s) }

// RxFull is ledger_full of the receive direction.
func (t *Table) RxFull(c *Conn, limit int) bool { return C.call_rx_full(t.t, c, u32(limit)) != 0 }

// CanInsert is conn_can_insert.
func (t *Table) CanInsert(c *Conn, n int) bool { return C.call_can_insert(t.t, c, u32(n)) != 0 }

// Insert is conn_insert; it returns the wire position.
func (t *Table) Insert(c *Conn, n int, now uint32) uint32 {
	return uint32(C.call_insert(t.t, c, u32(n), u32(now)))
}

// Uninsert is conn_uninsert.
func (t *Table) Uninsert(c *Conn, seq uint32, n int) bool {
	return C.call_uninsert(t.t, c, u32(seq), u32(n)) != 0
}

// Done is conn_done.
func (t *Table) Done(c *Conn, slot, seq uint32) bool {
	return C.call_done(t.t, c, u32(slot), u32(seq)) != 0
}

// Taken does what a hook does after RxRemove: it names who answers for the
// youngest graft, and its state.
func (t *Table) Taken(c *Conn, slot, state uint32) {
	C.call_taken(t.t, c, u32(slot), u32(state))
}

// Responses reads b as tc_pod_in reads a segment that begins with a response.
func (t *Table) Responses(b []byte) (a Responses, h HTTP) {
	C.call_responses(t.t, (*u8)(unsafe.SliceData(b)), u32(len(b)), &a, &h)
	return a, h
}

// RecoveryAck is recovery_ack.
func (t *Table) RecoveryAck(r *Recovery, c *Conn, s *Segment) bool {
	return C.call_recovery_ack(t.t, r, c, s) != 0
}

// truth is a bool of C's.
func truth(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

// RecoveryMeasure is recovery_measure.
func (t *Table) RecoveryMeasure(r *Recovery, c *Conn, ms int32, bare bool) {
	C.call_recovery_measure(t.t, r, c, C.__s32(ms), truth(bare))
}

// RecoveryDue is recovery_due.
func (t *Table) RecoveryDue(r *Recovery, c *Conn, sent uint32) uint32 {
	return uint32(C.call_recovery_due(t.t, r, c, u32(sent)))
}

// RecoveryExpire is recovery_expire.
func (t *Table) RecoveryExpire(r *Recovery, c *Conn) { C.call_recovery_expire(t.t, r, c) }

// RecoveryMissing is recovery_missing.
func (t *Table) RecoveryMissing(c *Conn, sent, now uint32) bool {
	return C.call_recovery_missing(t.t, c, u32(sent), u32(now)) != 0
}

// RecoveryFar is recovery_far.
func (t *Table) RecoveryFar(c *Conn) bool { return C.call_recovery_far(t.t, c) != 0 }

// Sack reads and translates a TCP header's options as the hooks do: of a segment
// that came from the peer with the acknowledgement ack, or of one of the local
// socket with kack, which becomes ack on the wire.
func (t *Table) Sack(c *Conn, options []byte, received bool, kack, ack uint32) (k Sack) {
	for i, b := range options {
		k.before[i] = u8(b)
	}
	k.len = u32(len(options))
	C.call_sack(t.t, c, &k, truth(received), u32(kack), u32(ack))
	return k
}

// Loss does what tc_device_in does with a segment without payload and its options before
// Rx: whether PUBACKs may be missing, and which of them are sent again now.
func (t *Table) Loss(c *Conn, s *Segment, options []byte, now uint32) (p Pubacks, shown bool) {
	var k Sack
	for i, b := range options {
		k.before[i] = u8(b)
	}
	k.len = u32(len(options))
	shown = C.call_loss(t.t, c, s, &k, &p, u32(now)) != 0
	return p, shown
}

// Overdue is loss_overdue: the PUBACKs whose time is up, and when the oldest was due.
func (t *Table) Overdue(c *Conn, more, now uint32) (p Pubacks, due uint32) {
	due = uint32(C.call_overdue(t.t, c, &p, u32(more), u32(now)))
	return p, due
}

// ParsePublish is mqtt_publish; only the first Look bytes of b are looked at.
func ParsePublish(b []byte, version byte, p *Publish) int {
	var buf [Look]u8
	for i := 0; i < len(b) && i < len(buf); i++ {
		buf[i] = u8(b[i])
	}
	return int(C.call_publish(&buf[0], u32(len(b)), u32(version), p))
}

// ScanProperties is properties_scan; of b no more than PropertiesMax bytes are looked at.
func ScanProperties(b []byte, q *Properties) int {
	var raw [PropertiesMax + 8]u8
	for i := range min(len(b), PropertiesMax) {
		raw[i] = u8(b[i])
	}
	return int(C.call_properties(&raw[0], u32(len(b)), q))
}

// Token is token_byte.
func Token(b byte) bool { return C.call_token(u8(b)) != 0 }

// Plain is text_plain over all of b.
func Plain(b []byte) bool {
	return len(b) == 0 || C.call_plain((*u8)(unsafe.Pointer(&b[0])), u32(len(b))) != 0
}

// Filter says whether the PUBLISH at the front of b is one that a trace of this topic filter shows, and
// which topic it has, as far as that is shown; only the first Look bytes of b are looked at.
func (t *Table) Filter(filter string, b []byte) (matches bool, name string) {
	var f C.struct_tracing
	f.topic_len = u32(len(filter))
	for i := range len(filter) {
		f.topic[i] = u8(filter[i])
	}
	var buf [Look]u8
	for i := 0; i < len(b) && i < len(buf); i++ {
		buf[i] = u8(b[i])
	}
	var p Publish
	matches = C.call_filter(t.t, &f, &buf[0], u32(min(len(b), Look)), &p) != 0
	if p.topic_len == 0 {
		return matches, ""
	}
	return matches, string(b[p.topic : p.topic+p.topic_len])
}

// TopicOK runs utf8_step over a topic name.
func TopicOK(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	return C.call_topic_ok((*u8)(unsafe.Pointer(&b[0])), u32(len(b))) != 0
}

// GoesOn is framing_goes_on.
func GoesOn(first byte) bool { return C.call_goes_on(u8(first)) != 0 }

// Step follows MQTT framing over b.
func (w *framing) Step(b []byte) {
	if len(b) > 0 {
		C.call_framing(&w.w, (*u8)(unsafe.Pointer(&b[0])), u32(len(b)))
	}
}

// AtBoundary is framing_at_boundary.
func (w *framing) AtBoundary() bool { return C.call_at_boundary(&w.w) != 0 }

// Bad reports framing that is not MQTT.
func (w *framing) Bad() bool { return w.w.bad != 0 }

type framing struct{ w Framing }

// IDsOp is what is done with packet identifiers.
type IDsOp uint32

// The functions of ids.h.
const (
	IDsRoom    IDsOp = C.SHIM_IDS_ROOM    // of an identifier: whether it can be entered
	IDsKnown   IDsOp = C.SHIM_IDS_KNOWN   // of an identifier: whether it is under way
	IDsEnter   IDsOp = C.SHIM_IDS_ENTER   // an identifier; returns its hold
	IDsHeld    IDsOp = C.SHIM_IDS_HELD    // of a hold
	IDsRelease IDsOp = C.SHIM_IDS_RELEASE // of a hold
	IDsTable   IDsOp = C.SHIM_IDS_TABLE   // gives the connection the table; returns whether it had none
)

// IDs does one of them; table may be nil.
func (t *Table) IDs(ids *IDs, table *IDTable, op IDsOp, arg uint32) uint32 {
	return uint32(C.call_ids(t.t, ids, table, C.__u32(op), u32(arg)))
}

// ClaimTable marks a table as taken, with its number.
func ClaimTable(t *IDTable, number int) { t.taken, t.number = 1, C.__u16(number) }

// FullIDs has a connection's own entries all used.
func FullIDs() (ids IDs) {
	ids.used = ^C.__u64(0)
	return ids
}

// ParkOp is what is done with messages that wait.
type ParkOp uint32

// The functions of parking.h.
const (
	ParkAdmit  ParkOp = C.SHIM_PARK_ADMIT
	ParkCancel ParkOp = C.SHIM_PARK_CANCEL
	ParkPush   ParkOp = C.SHIM_PARK_PUSH
	ParkPop    ParkOp = C.SHIM_PARK_POP
	ParkBack   ParkOp = C.SHIM_PARK_BACK
	ParkFree   ParkOp = C.SHIM_PARK_FREE
	ParkOld    ParkOp = C.SHIM_PARK_OLD
	ParkHand   ParkOp = C.SHIM_PARK_HAND

	ParkedMax = C.PARKED_MAX
	TurnsMax  = C.TURNS_MAX
	ParkLines = C.PARK_LINES
)

// ParkLimit says for how many messages there is memory.
func ParkLimit(p *Parking, n int) { p.limit = u32(n) }

// Park does op; what it returns is that function's result, 1 for true.
func (t *Table) Park(p *Parking, q *Queue, op ParkOp, client, n, ms uint32) uint32 {
	return uint32(C.call_park(t.t, p, q, u32(op), u32(client), u32(n), u32(ms)))
}

// LineOp is what is done with lines.
type LineOp uint32

// The functions of line.h.
const (
	LineAdmit    LineOp = C.SHIM_LINE_ADMIT
	LineCancel   LineOp = C.SHIM_LINE_CANCEL
	LinePush     LineOp = C.SHIM_LINE_PUSH
	LineBack     LineOp = C.SHIM_LINE_BACK
	LineAnswered LineOp = C.SHIM_LINE_ANSWERED
	LineTakeOver LineOp = C.SHIM_LINE_TAKE_OVER
	LineHold     LineOp = C.SHIM_LINE_HOLD
	LineWatch    LineOp = C.SHIM_LINE_WATCH
	LineRelease  LineOp = C.SHIM_LINE_RELEASE
	LinePlaced   LineOp = C.SHIM_LINE_PLACED
	LineTake     LineOp = C.SHIM_LINE_TAKE
)

// LineArgs are what these functions are given, and Line and Flag what they give back beside their result.
type LineArgs struct {
	Name                       uint64
	Queue, Family, Line, N, Ms uint32
	Flag                       bool
}

// Line does op; what it returns is that function's result, 1 for true.
func (t *Table) Line(p *Parking, q *Queue, op LineOp, a *LineArgs) uint32 {
	c := C.struct_shim_line_args{name: C.__u64(a.Name), queue: u32(a.Queue), family: u32(a.Family), line: u32(a.Line), n: u32(a.N), ms: u32(a.Ms)}
	n := uint32(C.call_line(t.t, p, q, u32(op), &c))
	a.Line, a.Flag = uint32(c.line), c.flag != 0
	return n
}
