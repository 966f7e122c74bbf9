package slot

import (
	"errors"
	"fmt"
	"net"
	"time"

	"eproxy/internal/bpf"
	"eproxy/internal/clock"
	"eproxy/internal/depth"
	"eproxy/internal/pool"
)

// errSurplus means that a pod has sent more responses than it had requests.
var errSurplus = errors.New("more responses than requests")

// early says whether what is read next, at this place in the stream, cannot be the
// response to the message that args took over: the pod sent it before it had the
// whole request.
func early(args bpf.EproxySlotArgs, position uint32) bool {
	return args.State == uint32(bpf.EproxySlotStateSLOT_RETIRED) || args.Acked == 0 || int32(position-args.Position) < 0
}

// serve reads whatever the programs pass to the socket: responses that the
// kernel path does not digest, and the end.
func (s *Slot) serve(conn *net.TCPConn, gen uint32) error {
	r := pool.NewReader(conn)
	begin := s.position.Load()
	for {
		if err := r.Wait(); err != nil {
			return err
		}
		args, err := s.takeOver(gen)
		if err != nil {
			return err
		}
		if args.Ok == 0 {
			return fmt.Errorf("unexpected bytes from the pod (slot state %d)", args.State)
		}
		if early(args, begin+uint32(r.Position())) {
			s.finish(args, nil, pool.ErrEarly, s.spoilt(args, pool.ErrEarly))
			return pool.ErrEarly
		}
		keeps, err := s.respond(conn, r, args)
		if err != nil {
			return err
		}
		if r.Buffered() > 0 && s.InFlight() == 0 {
			s.spoilt(args, errSurplus)
			keeps = false
		}
		if !keeps {
			return errClosing
		}
		if s.InFlight() > 0 {
			continue // their responses come this way, too
		}
		s.position.Store(begin + uint32(r.Position()))
		args, err = s.control(bpf.EproxySlotOpSLOT_OP_READY, bpf.EproxySlotArgs{Slot: s.at.Index, Gen: gen, Position: s.position.Load()})
		if err != nil {
			return err
		}
		if args.Ok == 0 {
			return fmt.Errorf("slot cannot be used again (state %d)", args.State)
		}
		s.pod.Freed()
	}
}

// respond reads the response to a message that was taken over, and finishes it. It says whether the pod keeps the connection.
func (s *Slot) respond(conn *net.TCPConn, r *pool.Reader, args bpf.EproxySlotArgs) (keeps bool, err error) {
	left := s.pod.Function().Timeout - (clock.Monotonic() - time.Duration(args.TakenNs))
	_ = conn.SetReadDeadline(time.Now().Add(max(left, time.Millisecond)))
	resp, err := r.Response()
	_ = conn.SetReadDeadline(time.Time{})
	spent := 1
	switch {
	case err != nil:
		spent = s.spoilt(args, err)
	case args.Company == uint32(bpf.EproxyCompanyCOMPANY_TRIAL) && depth.Unreadable(resp.Status):
		s.pod.Troubled(depth.Status, pool.NewStatusError(resp))
		spent = 0
	}
	s.finish(args, resp, err, spent)
	return err == nil && resp.KeepAlive, err
}
