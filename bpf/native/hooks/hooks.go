//go:build cgo

package hooks

/*
#cgo CFLAGS: -O2 -I${SRCDIR} -I${SRCDIR}/../../abi
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
#include "machine.h"

static struct machine *open_machine(const char *path)
{
	void *h = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	struct machine *(*f)(void);

	if (!h)
		return NULL;
	f = (struct machine *(*)(void))dlsym(h, "eproxy_machine");
	return f ? f() : NULL;
}

static void call_run(struct machine *m) { m->run(); }
static void call_clear(struct machine *m) { m->clear(); }
static void call_save(struct machine *m) { m->save(); }
static void call_restore(struct machine *m) { m->restore(); }
static __u64 call_reason(struct machine *m, __u32 hook, __u32 reason) { return m->reason(hook, reason); }
static void call_flow(struct machine *m, const struct tuple *key, __u32 index) { m->flow(key, index); }
static void call_edge(struct machine *m, const struct edge_key *key, __u32 node) { m->edge(key, node); }
static void call_knobs(struct machine *m, __u32 slots, __u32 pipeline)
{
	*m->slot_count = slots;
	*m->pipeline = pipeline;
}

static struct event *record_event(struct record *r) { return &r->event; }
static struct slot_args *record_control(struct record *r) { return &r->control; }
static struct device_args *record_device_control(struct record *r) { return &r->device; }
static struct message *record_parked(struct record *r) { return &r->parked; }
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// The C types, as Go sees them.
type (
	Conn          = C.struct_conn
	Device        = C.struct_device
	Slot          = C.struct_slot
	Pod           = C.struct_pod
	Ledger        = C.struct_ledger
	Graft         = C.struct_graft
	Message       = C.struct_message
	Parking       = C.struct_parking
	Queue         = C.struct_queue
	Parked        = C.struct_parked_message
	Tuple         = C.struct_tuple
	Step          = C.struct_step
	Record        = C.struct_record
	Event         = C.struct_event
	DeviceControl = C.struct_device_args
	Control       = C.struct_slot_args

	u8  = C.__u8
	u16 = C.__u16
	u32 = C.__u32
	u64 = C.__u64
)

// Constants of the headers.
const (
	Tasks     = C.TASKS
	MaxSteps  = C.STEPS
	MaxTurns  = C.TURNS
	Ring      = C.LEDGER_RING
	NoIndex   = C.NO_INDEX
	RightsAll = C.RIGHTS_ALL
	Hooks     = C.HOOK_COUNT
	Reasons   = C.REASON_COUNT

	ConnFree   = C.CONN_FREE
	ConnLost   = C.CONN_LOST
	ConnArmed  = C.CONN_ARMED
	ConnOpen   = C.CONN_OPEN
	ConnClosed = C.CONN_CLOSED
	KindDevice = C.CONN_DEVICE
	KindSlot   = C.CONN_SLOT
	FlagBroken = C.CONN_BROKEN

	GraftOpen = C.GRAFT_OPEN

	SlotFree       = C.SLOT_FREE
	SlotDialling   = C.SLOT_DIALLING
	SlotIdle       = C.SLOT_IDLE
	SlotBusy       = C.SLOT_BUSY
	SlotResponding = C.SLOT_RESPONDING
	SlotPassing    = C.SLOT_PASSING
	SlotTakenOver  = C.SLOT_TAKEN_OVER
	SlotRetired    = C.SLOT_RETIRED

	OpReady    = C.SLOT_OP_READY
	OpTakeOver = C.SLOT_OP_TAKE_OVER
	OpRetire   = C.SLOT_OP_RETIRE
	OpClose    = C.SLOT_OP_CLOSE

	OpBoundary = C.DEVICE_OP_BOUNDARY
	OpRights   = C.DEVICE_OP_RIGHTS
	OpStop     = C.DEVICE_OP_STOP
	OpHold     = C.DEVICE_OP_HOLD
	OpRelease  = C.DEVICE_OP_RELEASE
	OpClear    = C.DEVICE_OP_CLEAR

	RouteCopy = C.ROUTE_COPY
	ArmClear  = C.ARM_CLEAR

	HoldNone  = C.HOLD_NONE
	HoldShift = C.HOLD_SHIFT
	IDsMax    = C.IDS_MAX

	StepDeviceFrame   = C.STEP_DEVICE_FRAME
	StepPodFrame      = C.STEP_POD_FRAME
	StepLocalFrame    = C.STEP_LOCAL_FRAME
	StepControl       = C.STEP_CONTROL
	StepDeviceControl = C.STEP_DEVICE_CONTROL
	StepSweep         = C.STEP_SWEEP
	StepFree          = C.STEP_FREE
	StepArm           = C.STEP_ARM
	StepDevice        = C.STEP_DEVICE
	StepSlot          = C.STEP_SLOT
	StepSocket        = C.STEP_SOCKET
	StepReload        = C.STEP_RELOAD
	StepEnter         = C.STEP_ENTER
	StepLeave         = C.STEP_LEAVE
	StepParkTake      = C.STEP_PARK_TAKE
	StepParkSend      = C.STEP_PARK_SEND
	StepPod           = C.STEP_POD
	StepSleep         = C.STEP_SLEEP
	StepAlias         = C.STEP_ALIAS

	RecordDeviceWire    = C.RECORD_DEVICE_WIRE
	RecordPodWire       = C.RECORD_POD_WIRE
	RecordDeviceLocal   = C.RECORD_DEVICE_LOCAL
	RecordPodLocal      = C.RECORD_POD_LOCAL
	RecordDrop          = C.RECORD_DROP
	RecordEvent         = C.RECORD_EVENT
	RecordControl       = C.RECORD_CONTROL
	RecordDeviceControl = C.RECORD_DEVICE_CONTROL
	RecordParked        = C.RECORD_PARKED
	RecordRoused        = C.RECORD_ROUSED
	RecordCopy          = C.RECORD_COPY

	ReasonResponse      = C.REASON_RESPONSE
	ReasonDoneByAck     = C.REASON_DONE_BY_ACK
	ReasonReinjected    = C.REASON_REINJECTED
	ReasonPubackResent  = C.REASON_PUBACK_RESENT
	ReasonRace          = C.REASON_RACE
	ReasonDeviceGone    = C.REASON_DEVICE_GONE
	ReasonPubackHanded  = C.REASON_PUBACK_HANDED
	ReasonSlotRetired   = C.REASON_SLOT_RETIRED
	ReasonDeadSocket    = C.REASON_DEAD_SOCKET
	ReasonRedirectError = C.REASON_REDIRECT_ERROR
	ReasonInjected      = C.REASON_INJECTED
	ReasonResync        = C.REASON_RESYNC
	ReasonTakenOver     = C.REASON_TAKEN_OVER
	ReasonDupRequest    = C.REASON_DUP_REQUEST
	ReasonNoSlot        = C.REASON_NO_SLOT
	ReasonRepeated      = C.REASON_REPEATED
	ReasonParked        = C.REASON_PARKED
	ReasonUnparked      = C.REASON_UNPARKED
	ReasonParkHanded    = C.REASON_PARK_HANDED
	ReasonKept          = C.REASON_KEPT
	ReasonKeptVain      = C.REASON_KEPT_VAIN
	ReasonCopied        = C.REASON_COPIED
	ReasonCopiesFull    = C.REASON_COPIES_FULL
	ReasonOrderUnknown  = C.REASON_ORDER_UNKNOWN
	ReasonAlias         = C.REASON_ALIAS

	EventPuback = C.EVENT_PUBACK
	EventSlot   = C.EVENT_SLOT
	EventBroken = C.EVENT_BROKEN
	EventSend   = C.EVENT_SEND
	EventPlace  = C.EVENT_PLACE
	EventParked = C.EVENT_PARKED
	EventWake   = C.EVENT_WAKE

	PodUp     = C.POD_UP
	PodDrains = C.POD_DRAINS
	PodAwake  = C.POD_AWAKE
	PodAsleep = C.POD_ASLEEP
	PodWaking = C.POD_WAKING
	PodRest   = C.POD_OP_REST
	PodWoken  = C.POD_OP_AWAKE

	ParkFamilies = C.PARK_FAMILIES
)

// Machine is one compiled copy of the programs with its maps.
type Machine struct{ c *C.struct_machine }

// Open loads a shared object that defines eproxy_machine. It is never unloaded.
func Open(path string) (*Machine, error) {
	p := C.CString(path)
	defer C.free(unsafe.Pointer(p))
	m := C.open_machine(p)
	if m == nil {
		return nil, fmt.Errorf("open %s: %s", path, C.GoString(C.dlerror()))
	}
	return &Machine{m}, nil
}

// Run runs what turn and step say; record says what came of it.
func (m *Machine) Run() { C.call_run(m.c) }

// Clear empties all maps.
func (m *Machine) Clear() { C.call_clear(m.c) }

// Save keeps the state of all maps.
func (m *Machine) Save() { C.call_save(m.c) }

// Restore brings the kept state back.
func (m *Machine) Restore() { C.call_restore(m.c) }

// Shared is the memory of the maps that change.
func (m *Machine) Shared() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(m.c.shared)), m.c.shared_len)
}

// Knobs sets how many conns are slots, and their request buffers.
func (m *Machine) Knobs(slots, pipeline int) {
	C.call_knobs(m.c, u32(slots), u32(pipeline))
}

// Flow enters a connection's 4-tuple.
func (m *Machine) Flow(t Tuple, index int) { C.call_flow(m.c, &t, u32(index)) }

// Edge enters an edge of the routing automaton.
func (m *Machine) Edge(node int, level string, child int) {
	k := C.struct_edge_key{node: u32(node), len: u32(len(level))}
	for i := range level {
		k.level[i] = u8(level[i])
	}
	C.call_edge(m.c, &k, u32(child))
}

// Prefix gives function 0, with pod 0, its request prefix.
func (m *Machine) Prefix(prefix string) {
	f := m.c.functions
	f.pod_count = 1
	f.prefix_len = u32(len(prefix))
	for i := range prefix {
		f.prefix[i] = u8(prefix[i])
	}
}

// Attention is the first word of the attention map.
func (m *Machine) Attention() uint64 { return uint64(*m.c.attention) }

// TimerRuns says whether the sweeper's timer was started.
func (m *Machine) TimerRuns() bool { return m.timer()[0] != 0 }

// StartTimer starts the sweeper's timer, as sweep_start does.
func (m *Machine) StartTimer() { m.timer()[0] = 1 }

func (m *Machine) timer() *[2]uint64 { return (*[2]uint64)(unsafe.Pointer(m.c.sweeper)) }

// Pod is an entry of the pods map.
func (m *Machine) Pod(i int) *Pod { return at(m.c.pods, i) }

// Node is a node of the routing automaton.
func (m *Machine) Node(i int) *C.struct_node { return at(m.c.nodes, i) }

// Route is a route that nodes name.
func (m *Machine) Route(i int) *C.struct_route { return at(m.c.routes, i) }

// Reason is a counter.
func (m *Machine) Reason(hook, reason int) int {
	return int(C.call_reason(m.c, u32(hook), u32(reason)))
}

func at[T any](first *T, i int) *T {
	return (*T)(unsafe.Add(unsafe.Pointer(first), uintptr(i)*unsafe.Sizeof(*first)))
}

// Conn is an entry of the conns map.
func (m *Machine) Conn(i int) *Conn { return at(m.c.conns, i) }

// Device is the device's part of conn i.
func (m *Machine) Device(i int) *Device { return at(m.c.devices, i-int(*m.c.slot_count)) }

// Slot is an entry of the slots map.
func (m *Machine) Slot(i int) *Slot { return at(m.c.slots, i) }

// Parking is the order of the messages that wait.
func (m *Machine) Parking() *Parking { return m.c.parking }

// Queue is an entry of the queues map.
func (m *Machine) Queue(i int) *Queue { return at(m.c.queues, i) }

// KeptBusy says whether some processor works with what is kept of cut messages.
func (m *Machine) KeptBusy() bool { return m.c.kept.busy != 0 }

// Parked is the message that waits with this number.
func (m *Machine) Parked(number int) *Parked { return at(m.c.parked, number) }

// Request is the buffer of a slot's request.
func (m *Machine) Request(slot int, number uint32) []byte {
	i, n := slot, int(number)&int(*m.c.pipeline-1)
	if n > 0 {
		i = int(*m.c.slot_count) + slot*int(*m.c.pipeline) + n
	}
	r := at(m.c.requests, i)
	return bytesOf(r.buf[:])
}

// Records is what came of the last run.
func (m *Machine) Records() []Record { return m.c.record[:m.c.records] }

func bytesOf(b []u8) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(&b[0])), len(b)) }

func eventOf(r *Record) *Event { return C.record_event(r) }

func controlOf(r *Record) *Control { return C.record_control(r) }

func deviceControlOf(r *Record) *DeviceControl { return C.record_device_control(r) }

func parkedOf(r *Record) *Message { return C.record_parked(r) }

func frameOf(r *Record) []byte { return bytesOf(r.bytes[:])[:r.len] }

func (m *Machine) faultText() string { return C.GoString(&m.c.fault[0]) }
