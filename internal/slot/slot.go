package slot

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"eproxy/internal/bpf"
	"eproxy/internal/config"
	"eproxy/internal/conntable"
	"eproxy/internal/depth"
	"eproxy/internal/lograte"
	"eproxy/internal/mapmem"
	"eproxy/internal/takeover"
)

// Common is what all slots have in common.
type Common struct {
	Ctx      context.Context // ends with the process
	Memory   *mapmem.Memory
	Objects  *bpf.EproxyObjects
	Control  func(*bpf.EproxySlotArgs) error // runs the program slot_control
	Entries  *conntable.Entries
	Messages Messages
	IDSeed   uint32 // of the slots' ce-ids
	Often    *lograte.Logger
}

// Messages get what is in flight on a slot that ends: takeover.Messages.
type Messages interface {
	// Begin counts a message before the programs no longer do, Cancel ends that: it was not taken over.
	Begin()
	Cancel()
	// FinishSent finishes one that was.
	FinishSent(sent takeover.Sent)
}

// Pod is what a slot needs of its pod, and tells it. No lock of the slot's is held.
type Pod interface {
	// Function is the current configuration of the pod's function.
	Function() *config.Function
	// Deep says whether slots have memory for more than one request.
	Deep() bool
	// Connected: the slot's connection is made, and the programs see it.
	Connected()
	// NotConnected: it could not be made.
	NotConnected(err error)
	// Freed: the slot may be used again.
	Freed()
	// Troubled: several requests were in flight, and something went wrong.
	Troubled(why depth.Why, cause error)
	// Ended: the slot's connection is over, or did not come up. again: another one is to be dialled.
	Ended(s *Slot, e Ending) (again bool)
}

// Ending is how a slot's connection came to its end.
type Ending struct {
	Err      error
	Dialled  bool
	Unneeded bool // it was closed because there was nothing to do
	Requests int  // that it carried
	Unread   int  // of those, the ones behind a response that said that it is the last
	AtOnce   bool // it ended with a response
}

// At is where a slot is.
type At struct {
	Index uint32 // of its connection
	Bit   uint   // of it in its pod's words
	Of    *Of
}

// Of is which pod slots are of.
type Of struct {
	Index   uint32
	Address netip.AddrPort
	Log     *slog.Logger // says which pod it is
}

// Slot is one keep-alive connection to a pod. Its goroutine owns reading. All methods but Run may be called at any time.
type Slot struct {
	common *Common
	pod    Pod
	at     At

	grown    atomic.Bool   // it has memory: it was dialled
	position atomic.Uint32 // the byte of the stream that is read next, as the programs count

	mu       sync.Mutex
	gen      uint32
	conn     *net.TCPConn
	ready    time.Duration // when it was connected, clock.Monotonic()
	requests uint32        // of its entry, then
	doomed   bool          // a message was given up: what comes next answers nothing
	trouble  error         // why one of several requests in flight was not answered; nil: all were
	unneeded bool          // it is being closed
}

// New makes a slot of a pod, without a connection.
func New(common *Common, pod Pod, at At) *Slot { return &Slot{common: common, pod: pod, at: at} }

// Bit is the slot's number in its pod.
func (s *Slot) Bit() uint { return s.at.Bit }

// Mask is the slot's bit in its pod's words.
func (s *Slot) Mask() uint64 { return 1 << s.at.Bit }

// Deepen gives the slot memory for more than one request.
func (s *Slot) Deepen() error { return s.common.Memory.GrowSlot(s.at.Index, true) }

// memory is the slot's entry in its map; of one that has grown.
func (s *Slot) memory() *bpf.EproxySlot { return s.common.Memory.Slots.At(s.at.Index) }

// InFlight is the number of requests of the programs that are not answered.
func (s *Slot) InFlight() uint32 {
	if !s.grown.Load() {
		return 0
	}
	mem := s.memory()
	return atomic.LoadUint32(&mem.Tail) - atomic.LoadUint32(&mem.Head)
}
