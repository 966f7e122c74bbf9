package broker

import (
	"time"

	"eproxy/internal/config"
	"eproxy/internal/delivery"
	"eproxy/internal/request"
)

// acknowledge notifies a client how its message ended: PUBACK or PUBREC; MQTT
// 3.1.1 has no way to say no but to disconnect, so that the client sends again.
// topic is empty where only the packet identifier is known.
func (s *Server) acknowledge(x *Session, topic string, id uint16, qos byte, o delivery.Outcome) {
	if x.peer.Closed() || o.Interrupted { // without an acknowledgement the client keeps the message
		return
	}
	if !o.Acked && x.Version < 5 {
		if s.ctx.Err() == nil {
			s.log.Info("client disconnected, its message was not delivered", "client", x.ClientID, "packet_id", id, "topic", topic, "error", o.Err)
		}
		x.end(CodeUnspecified, "message not delivered to its function")
		return
	}
	if err := x.peer.Acknowledge(id, qos, o.ReasonCode); err != nil {
		s.log.Debug("acknowledgement not written", "client", x.ClientID, "error", err)
	}
}

func (s *Server) record(route *config.Route, m *request.Message, o delivery.Outcome, took time.Duration) {
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

// Refused counts something that a client was refused.
func (s *Server) Refused(reason string) { s.refused(reason) }

// refusedTopic counts and logs that a client may not do something with a topic.
func (s *Server) refusedTopic(reason string, x *Session, what, topic string) {
	s.refused(reason)
	s.log.Debug("refused", "reason", reason, "client", x.ClientID, "to", what, "topic", topic)
}
