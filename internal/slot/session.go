package slot

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"eproxy/internal/bpf"
	"eproxy/internal/clock"
	"eproxy/internal/depth"
)

const (
	backoffMin = 10 * time.Millisecond
	// BackoffMost is the longest time between two attempts to connect to a pod.
	BackoffMost = time.Second
	// atOnce is how soon after its response a server closes a connection that it
	// does not keep.
	atOnce = 100 * time.Millisecond
)

var (
	errClosing = errors.New("pod closes the connection")
	errTimeout = errors.New("no response in time")
	// errTrial is the end of a connection on which a trial was not answered in time.
	errTrial = errors.New("a request behind others of its connection was not answered in time")
)

// Run dials the slot and serves its connection, and dials again as long as its pod
// needs it.
func (s *Slot) Run(ctx context.Context) {
	backoff := backoffMin
	for {
		began := time.Now()
		e := s.session(ctx)
		s.at.Of.Log.Debug("slot closed", "slot", s.at.Index, "error", e.Err)
		if !s.pod.Ended(s, e) {
			return
		}
		if e.AtOnce || time.Since(began) > time.Second {
			backoff = backoffMin
		}
		if e.AtOnce { // the server does its part
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, BackoffMost)
	}
}

// session is one connection: dial, serve, take over what is left, clean up.
func (s *Slot) session(ctx context.Context) (e Ending) {
	conn, gen, tuple, err := s.dial(ctx)
	if err != nil {
		s.pod.NotConnected(err)
		return Ending{Err: err}
	}
	s.pod.Connected()
	stop := context.AfterFunc(ctx, func() { s.leave(conn, gen) })
	defer stop()
	err = s.serve(conn, gen)

	// Nobody may claim it any more; what was in flight is userspace's now.
	_, _ = s.insist(bpf.EproxySlotOpSLOT_OP_RETIRE, bpf.EproxySlotArgs{Slot: s.at.Index, Gen: gen})
	left, unread := s.takeRest(gen, err)
	mem := s.memory()
	answered := time.Duration(atomic.LoadUint64(&mem.RespondedNs))
	s.mu.Lock()
	s.conn = nil
	e = Ending{Err: err, Dialled: true, Unneeded: s.unneeded, Requests: int(atomic.LoadUint32(&mem.Count) - s.requests), Unread: unread}
	trouble := s.trouble
	s.mu.Unlock()
	if trouble != nil && ctx.Err() == nil {
		s.pod.Troubled(depth.WhyEnded(trouble, errTrial, errTimeout), trouble)
	}
	e.AtOnce = left == 0 && (errors.Is(err, errClosing) || answered > 0 && clock.Monotonic()-answered < atOnce)
	abort(conn)
	s.free(gen, tuple)
	return e
}

// free gives the entry of a connection back that is over, or never came up.
func (s *Slot) free(gen uint32, tuple bpf.EproxyTuple) {
	s.common.Entries.Free(s.at.Index, gen, tuple)
	atomic.StoreUint32(&s.memory().State, uint32(bpf.EproxySlotStateSLOT_FREE))
}

// abort closes with RST: a retired connection is never repaired.
func abort(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}
