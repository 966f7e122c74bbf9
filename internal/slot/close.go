package slot

import (
	"net"
	"time"

	"eproxy/internal/bpf"
	"eproxy/internal/datapath"
)

// leaving is how long a pod has to close its end of a connection that is not used
// any more.
const leaving = datapath.Farewell / 2

// Close ends an idle slot's connection. Not if a request has come to it.
func (s *Slot) Close() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return false
	}
	args, err := s.control(bpf.EproxySlotOpSLOT_OP_CLOSE, bpf.EproxySlotArgs{Slot: s.at.Index, Gen: s.gen})
	if err != nil || args.Ok == 0 {
		return false
	}
	s.unneeded = true
	farewell(s.conn)
	return true
}

// Retired closes the connection: the programs have retired the slot.
func (s *Slot) Retired(gen uint32) {
	s.mu.Lock()
	conn, current := s.conn, s.gen
	s.mu.Unlock()
	if conn != nil && current == gen {
		abort(conn)
	}
}

// leave ends the connection of a slot that goes out of service: with FIN if
// nothing is in flight, so that the server sees no error. Reading ends when the
// pod has closed its end, too, or its time is over.
func (s *Slot) leave(conn *net.TCPConn, gen uint32) {
	args, err := s.control(bpf.EproxySlotOpSLOT_OP_RETIRE, bpf.EproxySlotArgs{Slot: s.at.Index, Gen: gen})
	if err != nil || args.Ok == 0 || args.State != uint32(bpf.EproxySlotStateSLOT_IDLE) {
		abort(conn)
		return
	}
	farewell(conn)
}

// farewell closes this end of a connection, and gives the pod time to close its own.
func farewell(conn *net.TCPConn) {
	if conn.CloseWrite() != nil {
		abort(conn)
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(leaving))
}
