package broker

import (
	"bytes"
	"runtime/debug"
)

// Fault counts and logs a panic in what was done for a client; an empty client
// identifier: nobody has said yet who it is. It is called by who has recovered.
func (s *Server) Fault(clientID string, cause any) {
	s.log.Error("connection ended by a fault of the server", "client", clientID, "cause", cause, "stack", origin(debug.Stack()))
	s.refused("panic")
}

// contain, deferred, ends a client's session if the goroutine panics, and the
// panic with it. It is for everything that is done for a client in another
// goroutine than its connection's.
func (s *Server) contain(clientID string) {
	if cause := recover(); cause != nil {
		s.contained(clientID, cause)
	}
}

// contained ends a client's session after a panic.
func (s *Server) contained(clientID string, cause any) {
	s.Fault(clientID, cause)
	defer s.absorb(clientID) // the same may be wrong here
	if x := s.sessions.find(clientID); x != nil {
		x.end(CodeUnspecified, "fault of the server")
	}
}

// absorb, deferred, ends a panic in what is done for a client whose connection is
// ending or has ended.
func (s *Server) absorb(clientID string) {
	if cause := recover(); cause != nil {
		s.Fault(clientID, cause)
	}
}

// stackLines is how many lines of a stack are logged: five functions and where
// they are.
const stackLines = 10

// origin is the part of a stack that begins where the panic did.
func origin(stack []byte) string {
	if _, below, ok := bytes.Cut(stack, []byte("\npanic(")); ok {
		stack = below
	}
	lines := bytes.SplitN(stack, []byte("\n"), stackLines+3)
	return string(bytes.Join(lines[min(2, len(lines)-1):min(stackLines+2, len(lines))], []byte("\n")))
}
