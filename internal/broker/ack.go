package broker

import (
	"net/netip"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/delivery"
	"eproxy/internal/pool"
	"eproxy/internal/request"
	"eproxy/internal/trace"
)

// acknowledge notifies a client how its message ended: PUBACK or PUBREC; MQTT
// 3.1.1 has no way to say no but to disconnect, so that the client sends again. What its function will
// never have is acknowledged to it all the same: it would come again for ever. b: see
// Peer.Acknowledge.
func (s *Server) acknowledge(x *Session, id uint16, qos byte, o delivery.Outcome, b *pool.Batch) {
	if x.peer.Closed() || o.Interrupted { // without an acknowledgement the client keeps the message
		return
	}
	if !o.Acked && !o.Rejected && x.Version < 5 {
		if s.ctx.Err() == nil {
			s.often.Warn("client disconnected, its message was not delivered", o.Function,
				"client", x.ClientID, "packet_id", id, "topic", o.Topic, "function", o.Function, "error", o.Err)
		}
		x.end(CodeUnspecified, "message not delivered to its function")
		return
	}
	if err := x.peer.Acknowledge(id, qos, o.ReasonCode, b); err != nil {
		s.log.Debug("acknowledgement not written", "client", x.ClientID, "error", err)
	}
}

func (s *Server) record(route *config.Route, m *request.Message, o delivery.Outcome, took time.Duration) {
	if s.opts.Tracer.On() || s.opts.Spans.On() && m.Trace != nil {
		e := trace.Event{Time: time.Now(), Client: m.ClientID, Topic: m.Topic, QoS: m.QoS, Path: trace.Fallback,
			Route: route.Filter, Function: o.Function, Status: o.Status, Outcome: o.Name(), Took: took}
		s.opts.Tracer.Ended(e)
		s.opts.Spans.Ended(m.Trace, e)
	}
	if s.opts.Recorder == nil {
		return
	}
	s.opts.Recorder.Message(route.Filter, o.Function, m.QoS, o.Name(), took)
}

func (s *Server) refused(reason string) {
	if s.opts.Recorder != nil {
		s.opts.Recorder.Refused(reason)
	}
}

// NoRoom counts and logs a connection that was refused because no more than most may be open: it is nobody's fault, so that there is one line for all.
func (s *Server) NoRoom(most int) {
	s.refused("open_files")
	s.often.Warn("connections refused: the limit of open files (RLIMIT_NOFILE) has room for no more", "", "connections", most)
}

// Refused counts something that a client was refused and logs it with where it
// came from: once for each host, since everything else is the client's choice.
// reason is one of docs/METRICS.md, message and args are an operator's.
func (s *Server) Refused(reason, message string, remote netip.AddrPort, args ...any) {
	s.refused(reason)
	remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	s.remember(reason, message, remote, args)
	s.often.Warn(message, remote.Addr().String(), append([]any{"remote", remote}, args...)...)
}
