package slot

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"eproxy/internal/bpf"
	"eproxy/internal/pool"
	"eproxy/internal/takeover"
)

const (
	// A run of the control program that must not fail is tried again after insistMin, which doubles up to insistMost.
	insistMin  = time.Millisecond
	insistMost = 100 * time.Millisecond
	// insistEnd is how often it is tried when the process ends.
	insistEnd = 10
)

// control runs the control program of slots. A message that it takes over
// finish must get. Where it fails, nothing was changed.
func (s *Slot) control(op bpf.EproxySlotOp, in bpf.EproxySlotArgs) (args bpf.EproxySlotArgs, err error) {
	if op == bpf.EproxySlotOpSLOT_OP_TAKE_OVER {
		s.common.Messages.Begin() // before the slot no longer counts it
		defer func() {
			if err != nil || args.Ok == 0 {
				s.common.Messages.Cancel()
			}
		}()
	}
	for {
		args = in
		args.Op = uint32(op)
		if err := s.common.Control(&args); err != nil {
			return args, fmt.Errorf("slot control: %w", err)
		}
		if args.Ok != uint32(bpf.EproxySlotResultSLOT_AGAIN) {
			return args, nil
		}
		runtime.Gosched() // another processor is about to finish with the slot
	}
}

// insist is control until the kernel has run the program, which it may have no memory for at the moment: a message that is in flight
// on a connection that is over would never have an outcome otherwise. ok: false, the process has ended meanwhile, and with it
// its devices' connections, so that they send the message again.
func (s *Slot) insist(op bpf.EproxySlotOp, in bpf.EproxySlotArgs) (args bpf.EproxySlotArgs, ok bool) {
	left := insistEnd
	for wait := insistMin; ; wait = min(2*wait, insistMost) {
		args, err := s.control(op, in)
		if err == nil {
			return args, true
		}
		s.common.Often.Warn("what is in flight on a connection that has ended cannot be taken over yet", err.Error(), "pod", s.at.Of.Address, "error", err)
		if s.common.Ctx.Err() != nil {
			if left--; left == 0 {
				return args, false
			}
		}
		time.Sleep(wait)
	}
}

// unread says whether a pod has provably not read a message when its connection ended so: it sent
// FIN before its TCP had the whole request. RST proves nothing: the acknowledgement of what was
// read may have been lost before it.
func unread(args bpf.EproxySlotArgs, end error) bool {
	return args.Acked == 0 && (errors.Is(end, io.EOF) || errors.Is(end, io.ErrUnexpectedEOF))
}

// takeOver makes the oldest message in flight userspace's. Reading its response from
// the socket is only safe if nobody has given up on an earlier one.
func (s *Slot) takeOver(gen uint32) (args bpf.EproxySlotArgs, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doomed {
		return args, errTimeout
	}
	return s.control(bpf.EproxySlotOpSLOT_OP_TAKE_OVER, bpf.EproxySlotArgs{Slot: s.at.Index, Gen: gen})
}

// takeRest makes what is in flight on a connection that has ended so userspace's. It
// returns how much that was, and how much of it stood behind a response that said
// "Connection: close": the pod reads nothing more then (RFC 9112 section 9.6).
func (s *Slot) takeRest(gen uint32, end error) (left, cut int) {
	for {
		args, ok := s.insist(bpf.EproxySlotOpSLOT_OP_TAKE_OVER, bpf.EproxySlotArgs{Slot: s.at.Index, Gen: gen})
		if !ok || args.Ok == 0 {
			return left, cut
		}
		left++
		cause := fmt.Errorf("connection to %s: %w", s.at.Of.Address, end)
		closed := args.Closed != 0 || errors.Is(end, errClosing)
		if closed || unread(args, end) {
			cause = fmt.Errorf("%w: %w", pool.ErrUnread, cause)
		}
		spent := 0
		if closed {
			cut++
		} else {
			spent = s.spoilt(args, end)
		}
		s.finish(args, nil, cause, spent)
	}
}

// spoilt notes why the message that was just taken over was not answered. It returns how
// many of its attempts that counts for: none if it can be tried again, and other requests were
// in flight on the connection, which may be why.
func (s *Slot) spoilt(args bpf.EproxySlotArgs, cause error) (spent int) {
	if args.Company == uint32(bpf.EproxyCompanyCOMPANY_NONE) && s.InFlight() == 0 {
		return 1
	}
	s.mu.Lock()
	if s.trouble == nil {
		s.trouble = cause
	}
	s.mu.Unlock()
	if args.Qos > 0 {
		return 0
	}
	return 1
}

// Overdue takes the oldest message over if its time is up, or that of a trial, and ends
// the connection: what else is in flight on it follows.
func (s *Slot) Overdue(gen uint32, only bpf.EproxyTakeOnly) {
	cause := errTimeout
	if only == bpf.EproxyTakeOnlyTAKE_TRIAL {
		cause = errTrial
	}
	s.mu.Lock()
	conn := s.conn
	if conn == nil || s.gen != gen {
		s.mu.Unlock()
		return
	}
	args, err := s.control(bpf.EproxySlotOpSLOT_OP_TAKE_OVER, bpf.EproxySlotArgs{Slot: s.at.Index, Gen: s.gen, Only: uint32(only)})
	taken := err == nil && args.Ok == 1
	s.doomed = s.doomed || taken
	s.mu.Unlock()
	if taken {
		s.finish(args, nil, cause, s.spoilt(args, cause))
		abort(conn)
	}
}

// finish has a message finished that was taken over from the slot: with the response that userspace read, or by further
// attempts, of which so many are spent.
func (s *Slot) finish(args bpf.EproxySlotArgs, resp *pool.Response, cause error, spent int) {
	s.common.Messages.FinishSent(takeover.Sent{Function: s.pod.Function(), Pod: s.at.Of.Address.String(), Args: args,
		Request: s.requestOf(args), Response: resp, Cause: cause, Spent: spent})
}

// requestOf is the request that args names, copied from its buffer.
func (s *Slot) requestOf(args bpf.EproxySlotArgs) []byte {
	buf := s.common.Memory.Request(args.Slot, args.Number).Buf[:]
	if int(args.RequestLen) > len(buf) {
		return nil
	}
	return append([]byte(nil), buf[:args.RequestLen]...)
}
