package broker

import (
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/config"
	"eproxy/internal/delivery"
	"eproxy/internal/request"
)

// hook is where mochi asks.
type hook struct {
	mqtt.HookBase
	s *Server
}

// ID names the hook.
func (h *hook) ID() string { return "eproxy" }

// Provides says which questions it answers.
func (h *hook) Provides(b byte) bool {
	switch b {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnSessionEstablish,
		mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnSubscribe, mqtt.OnPublish, mqtt.OnDisconnect:
		return true
	}
	return false
}

// OnConnectAuthenticate checks user name and password.
func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	ok := h.s.rules.Load().auth.Authenticate(string(pk.Connect.Username), pk.Connect.Password)
	if !ok {
		h.s.refused("not_authenticated")
	}
	return ok
}

// OnACLCheck checks permission to publish (write) or subscribe. The library asks
// from other goroutines than the client's, too.
func (h *hook) OnACLCheck(cl *mqtt.Client, name string, write bool) (ok bool) {
	defer h.s.endOnPanic(cl)
	if cl.Net.Inline {
		return true
	}
	auth, user := h.s.rules.Load().auth, string(cl.Properties.Username)
	ok = auth.MaySubscribe(user, cl.ID, name)
	if write {
		ok = auth.MayPublish(user, cl.ID, name)
	}
	if !ok {
		h.s.refused("not_authorized")
	}
	return ok
}

// OnSessionEstablish offers the connection to the kernel path, before CONNACK.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, _ packets.Packet) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return
	}
	c.established = true
	if h.s.opts.Grafter == nil {
		return
	}
	acks := &ackQueue{
		limit:  receiveMaximum,
		queued: &h.s.queued,
		write: func(id uint16, o delivery.Outcome) {
			defer h.s.endOnPanic(cl)
			h.s.acknowledge(cl, id, 1, o)
		},
		overflow: func() {
			h.s.log.Info("client disconnected, it does not read its acknowledgements", "client", cl.ID)
			c.abort()
		},
	}
	g := h.s.opts.Grafter.Established(ConnInfo{
		Conn:          c.TCPConn,
		ClientID:      cl.ID,
		Version:       cl.Properties.ProtocolVersion,
		Read:          c.read,
		AtBoundary:    c.gate.atBoundary(),
		MayPublishAll: h.s.rules.Load().auth.MayPublishAll(string(cl.Properties.Username)),
		Complete: func(id uint16, o delivery.Outcome) {
			if id != 0 {
				acks.add(id, o)
			}
		},
		Abort: c.abort,
	})
	if g != nil {
		c.graft.Store(&g)
	}
}

// OnPublish takes routed messages out of the broker's hands.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if cl.Net.Inline {
		return pk, nil
	}
	route := h.s.rules.Load().route(pk.TopicName)
	if route == nil {
		return pk, nil
	}
	h.s.take(cl, pk, route)
	return pk, packets.ErrRejectPacket // acknowledged by acknowledge
}

// OnDisconnect forgets the client's share of the functions.
func (h *hook) OnDisconnect(cl *mqtt.Client, _ error, _ bool) { h.s.flights.Delete(cl) }

// flight is the client's places for messages in flight. A client that has none
// left is not read from until one ends: the rest waits in its own connection.
func (s *Server) flight(cl *mqtt.Client) chan struct{} {
	if f, ok := s.flights.Load(cl); ok {
		return f.(chan struct{})
	}
	f, _ := s.flights.LoadOrStore(cl, make(chan struct{}, s.opts.Config.Limits.InflightPerClient))
	return f.(chan struct{})
}

// take delivers a routed message in the background, as soon as the client has a
// place for it.
func (s *Server) take(cl *mqtt.Client, pk packets.Packet, route *config.Route) {
	if s.drained.Load() {
		return // unacknowledged: the client sends it again
	}
	if c, ok := cl.Net.Conn.(*conn); ok {
		if g := c.graft.Load(); g != nil && !s.rules.Load().auth.MayPublishAll(string(cl.Properties.Username)) {
			(*g).Granted(pk.TopicName)
		}
	}
	p, first := s.pending.begin(cl, pk.PacketID, pk.FixedHeader.Dup)
	if !first {
		return
	}
	if pk.FixedHeader.Retain {
		s.mqtt.Topics.RetainMessage(pk.Copy(false))
	}
	if route.AlsoBroker {
		s.republish(pk)
	}
	m := messageOf(cl, &pk)
	began := time.Now()
	deliver := func() {
		end := sync.OnceValue(func() *mqtt.Client { return s.pending.end(p, pk.PacketID) })
		defer end()
		o := s.opts.Engine.Deliver(s.ctx, route, m)
		s.record(route, m, o, time.Since(began))
		s.respond(m, o)
		to := end()
		if m.QoS > 0 {
			s.acknowledge(to, pk.PacketID, m.QoS, o)
		}
	}
	if route.Ordered {
		deliver() // the client's next packet is read when this is done
		return
	}
	places := s.flight(cl)
	select {
	case places <- struct{}{}:
	case <-s.ctx.Done():
		return
	}
	go func() {
		defer func() { <-places }()
		defer s.endOnPanic(cl)
		deliver()
	}()
}

// messageOf is the PUBLISH as the engine wants it.
func messageOf(cl *mqtt.Client, pk *packets.Packet) *request.Message {
	m := &request.Message{
		ClientID: cl.ID, Topic: pk.TopicName, Payload: pk.Payload, QoS: pk.FixedHeader.Qos,
		Retain: pk.FixedHeader.Retain, Dup: pk.FixedHeader.Dup, PacketID: pk.PacketID,
		Version: cl.Properties.ProtocolVersion, ContentType: pk.Properties.ContentType,
		ResponseTopic: pk.Properties.ResponseTopic, CorrelationData: pk.Properties.CorrelationData,
		MessageExpiry: pk.Properties.MessageExpiryInterval,
	}
	if pk.Properties.PayloadFormatFlag {
		m.PayloadFormat = pk.Properties.PayloadFormat
	}
	for _, u := range pk.Properties.User {
		m.UserProperties = append(m.UserProperties, request.UserProperty{Name: u.Key, Value: u.Val})
	}
	return m
}
