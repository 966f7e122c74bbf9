package mochi

import (
	"net/netip"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/broker"
	"eproxy/internal/codec"
)

// hook is where the library asks.
type hook struct {
	mqtt.HookBase
	s *Server
}

// ID names the hook.
func (h *hook) ID() string { return "eproxy" }

// Provides says which questions it answers.
func (h *hook) Provides(b byte) bool {
	switch b {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnSessionEstablish, mqtt.OnSessionEstablished,
		mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnSubscribe, mqtt.OnSubscribed, mqtt.OnPublish, mqtt.OnDisconnect,
		mqtt.OnQosPublish, mqtt.OnRetainMessage, mqtt.OnQosComplete, mqtt.OnQosDropped, mqtt.OnPublishDropped, mqtt.OnUnsubscribed:
		return true
	}
	return false
}

// OnConnect is called when the library has checked CONNECT. It asks whether the
// client may connect; who may not gets CONNACK with the reason here.
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return nil
	}
	if p := pk.Connect.WillPayload; len(p) > 0 && &p[0] == &emptyWill[0] {
		pk.Connect.WillPayload = nil
	}
	c.connect = codec.Connect(&pk, cl.ID, remoteOf(cl))
	c.quota.takeOver(cl)
	// What waits for a client outlives the connection, and the library leaves out of it the topic that has an alias.
	cl.Properties.Props.TopicAliasMaximum = 0
	// The will is the broker's: the library would publish it unasked.
	cl.Properties.Will = mqtt.Will{}
	if c.from.Certificate != nil {
		c.connect.Until = c.from.Certificate.Expires
	}
	if c.from.Certified {
		c.connect.Certified, c.connect.Username = true, c.from.Username
	}
	id, code := h.s.broker.Authenticate(c.connect)
	c.identity = id
	if code == broker.CodeSuccess && lasts(cl) && h.s.keep.full() {
		code = broker.CodeQuotaExceeded
		h.s.broker.Refused("persistence_full", "client refused: there is no room on disk for its session", id.Remote, "client", id.ClientID)
	}
	if code == broker.CodeSuccess {
		return nil
	}
	_, _ = c.Write(codec.Refusal(c.connect.Version, code))
	return packets.Code{Code: code, Reason: "connection refused"}
}

// OnConnectAuthenticate: OnConnect has asked already.
func (h *hook) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

func remoteOf(cl *mqtt.Client) netip.AddrPort {
	a, _ := netip.ParseAddrPort(cl.Net.Remote)
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// OnSessionEstablish begins the session, before CONNACK, with which the turn ends.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, _ packets.Packet) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return
	}
	c.beginTurn()
	c.established = true
	var t *broker.Transport
	if c.stream == nil {
		t = &broker.Transport{Conn: c.TCPConn, Read: c.progress.Read.Load(), AtBoundary: c.gate.atBoundary()}
	}
	c.collect(cl)
	c.session.Store(h.s.broker.Open(c.identity, c.connect, &peer{h.s, cl, c}, t))
	c.connect = nil // with the password
}

// OnSessionEstablished is called when the client has been sent what its session
// had waiting for it.
func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	if c, ok := cl.Net.Conn.(*conn); ok {
		c.running.Store(true)
		if cl.State.Inflight.Len() > 0 { // taken over with the session
			h.s.clock.hold(cl)
		}
	}
}

// OnQosPublish is called when something of QoS 1 or 2 waits for a client.
func (h *hook) OnQosPublish(cl *mqtt.Client, pk packets.Packet, _ int64, _ int) {
	h.s.clock.hold(cl)
	h.s.keep.message(cl, &pk)
	h.s.dropped.queueing(cl, &pk)
}

// OnQosComplete is called when a message of QoS 1 or 2 has ended.
func (h *hook) OnQosComplete(cl *mqtt.Client, pk packets.Packet) { h.s.keep.settled(cl, pk.PacketID) }

// OnQosDropped is called when it has expired, or its session has ended.
func (h *hook) OnQosDropped(cl *mqtt.Client, pk packets.Packet) { h.s.keep.settled(cl, pk.PacketID) }

// OnUnsubscribed is called before UNSUBACK, and for what a session that has ended leaves.
func (h *hook) OnUnsubscribed(cl *mqtt.Client, pk packets.Packet) {
	h.s.keep.unsubscribed(cl, pk.Filters)
}

// OnRetainMessage is called when a message is retained.
func (h *hook) OnRetainMessage(_ *mqtt.Client, pk packets.Packet, _ int64) {
	h.s.clock.retain(&pk)
	h.s.keep.retained(&pk)
}

// OnACLCheck says whether a client may receive what a filter or a topic name
// matches; whether it may publish is decided by OnPublish, which knows the topic
// behind an alias. The library asks from other goroutines than the client's, too.
func (h *hook) OnACLCheck(cl *mqtt.Client, name string, write bool) (ok bool) {
	defer h.s.endOnPanic(cl)
	if x := sessionOf(cl); x != nil && !write {
		return x.MaySubscribe(name)
	}
	return true
}

// OnSubscribed is called when it is decided what SUBACK says of each filter.
func (h *hook) OnSubscribed(cl *mqtt.Client, pk packets.Packet, codes []byte) {
	x := sessionOf(cl)
	if x == nil {
		return
	}
	h.s.keep.subscribed(cl, pk.Filters, codes)
	for i, f := range pk.Filters {
		if codes[i] >= packets.ErrUnspecifiedError.Code && !x.MaySubscribe(f.Filter) { // MQTT 3.1.1 has one code for all errors
			x.RefusedSubscription(f.Filter)
		}
	}
}

// OnPublish names who has published a message: the library has only those of its own client (see publish).
func (h *hook) OnPublish(_ *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	pk.Origin, pk.Connect.ClientIdentifier = pk.Connect.ClientIdentifier, ""
	return pk, nil
}

// OnDisconnect is called when an established client's connection has ended. The
// library then forgets a session that ends with it: in the turn that serve ends.
func (h *hook) OnDisconnect(cl *mqtt.Client, _ error, _ bool) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return
	}
	c.settleLost()
	c.flush() // behind DISCONNECT nothing is read
	if x := c.session.Load(); x != nil {
		h.s.broker.Ended(x)
	}
	c.ended = true
	c.beginTurn()
	h.s.clock.leave(cl)
	h.s.left(cl)
}

// sessionOf is a client's session; nil for the server's own client.
func sessionOf(cl *mqtt.Client) *broker.Session {
	if c, ok := cl.Net.Conn.(*conn); ok {
		return c.session.Load()
	}
	return nil
}
