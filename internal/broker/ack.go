package broker

import (
	"errors"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/config"
	"eproxy/internal/delivery"
	"eproxy/internal/request"
)

// errUndelivered ends an MQTT 3.1.1 connection: the client sends the message again.
var errUndelivered = errors.New("message not delivered to its function")

// acknowledge notifies a client how its message ended: PUBACK or PUBREC; MQTT
// 3.1.1 has no way to say no but to disconnect.
func (s *Server) acknowledge(cl *mqtt.Client, id uint16, qos byte, o delivery.Outcome) {
	if cl.Closed() {
		return
	}
	if !o.Acked && cl.Properties.ProtocolVersion < 5 {
		if s.ctx.Err() == nil {
			s.log.Info("client disconnected, its message was not delivered", "client", cl.ID, "packet_id", id)
		}
		cl.Stop(errUndelivered)
		return
	}
	ack := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Puback},
		PacketID:    id,
		ReasonCode:  o.ReasonCode,
		Created:     time.Now().Unix(),
	}
	if qos == 2 {
		ack.FixedHeader.Type = packets.Pubrec
		if o.Acked {
			// PUBREL finds it here; a repetition of the PUBLISH too.
			cl.State.Inflight.DecreaseReceiveQuota()
			cl.State.Inflight.Set(ack)
		}
	}
	if err := cl.WritePacket(ack); err != nil {
		s.log.Debug("acknowledgement not written", "client", cl.ID, "error", err)
	}
}

// refuseSys answers a PUBLISH to a $SYS topic, which is the server's alone
// [MQTT-4.7.2-1]: the library drops it without a word, and the client would wait
// for ever. It is notified as a client without permission is.
func (s *Server) refuseSys(cl *mqtt.Client, pk packets.Packet) {
	s.refused("not_authorized")
	s.acknowledge(cl, pk.PacketID, pk.FixedHeader.Qos, delivery.Outcome{ReasonCode: packets.ErrNotAuthorized.Code})
}

// respond publishes a function's response to the Response Topic (MQTT 5 section 4.10).
func (s *Server) respond(m *request.Message, o delivery.Outcome) {
	if m.ResponseTopic == "" || o.Response == nil || !o.Acked {
		return
	}
	s.inject(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish},
		TopicName:   m.ResponseTopic,
		Payload:     o.Response.Body,
		Properties:  packets.Properties{CorrelationData: m.CorrelationData, ContentType: o.Response.Header.Get("Content-Type")},
	})
}

// republish gives subscribers their copy.
func (s *Server) republish(pk packets.Packet) {
	out := pk.Copy(false)
	out.FixedHeader.Qos = pk.FixedHeader.Qos
	s.inject(out)
}

func (s *Server) inject(pk packets.Packet) {
	pk.ProtocolVersion = 5
	if err := s.mqtt.InjectPacket(s.inline, pk); err != nil {
		s.log.Warn("publish to subscribers", "topic", pk.TopicName, "error", err)
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
