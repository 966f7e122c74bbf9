package mochi

import (
	"fmt"
	"net/netip"
	"sync/atomic"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/broker"
	"eproxy/internal/codec"
)

// The library would take a connection up by itself, with a goroutine and a queue of 64 KiB for what may once be written to the client, and read
// its packets on top of all that CONNECT needed of the stack: of most of a node's devices that is all they ever have. So that is done here,
// with the library's clients, packets and subscriptions.

// attach takes up a client whose CONNECT the gate has let through: its session goes on or begins, it has CONNACK, and what waited for it.
func (s *Server) attach(c *conn) error {
	cl := s.mqtt.NewClient(c, c.accepted.address, "", false)
	pk, err := c.next(cl)
	if err != nil {
		return fmt.Errorf("read CONNECT: %w", err)
	}
	cl.ParseConnect(c.accepted.address, pk)
	if code := valid(&pk, cl); code != packets.CodeSuccess {
		_ = s.mqtt.SendConnack(cl, code, false, nil)
		return code
	}
	if err := s.authenticate(c, &pk); err != nil {
		return err
	}
	c.refresh()
	s.establish(c)
	present := s.enter(cl)
	if err := s.mqtt.SendConnack(cl, packets.CodeSuccess, present, nil); err != nil {
		return fmt.Errorf("write CONNACK: %w", err)
	}
	if err := s.resend(c); err != nil {
		return fmt.Errorf("write what waited: %w", err)
	}
	c.running.Store(true)
	if cl.State.Inflight.Len() > 0 { // taken over with the session
		s.clock.hold(cl)
	}
	c.begin()
	return nil
}

// valid says whether the library takes a CONNECT that the gate has let through.
func valid(pk *packets.Packet, cl *mochi.Client) packets.Code {
	if code := pk.ConnectValidate(); code != packets.CodeSuccess {
		return code
	}
	if cl.Properties.ProtocolVersion < 5 && !pk.Connect.Clean && pk.Connect.ClientIdentifier == "" {
		return packets.ErrUnspecifiedError // [MQTT-3.1.3-8 of MQTT 3.1.1]
	}
	return packets.CodeSuccess
}

// authenticate asks whether a client may connect, as its CONNECT says; who may not gets CONNACK with the reason here.
func (s *Server) authenticate(c *conn, pk *packets.Packet) error {
	cl := c.client
	if p := pk.Connect.WillPayload; len(p) > 0 && &p[0] == &emptyWill[0] {
		pk.Connect.WillPayload = nil
	}
	c.connect = codec.Connect(pk, cl.ID, remoteOf(cl))
	c.quota.takeOver(cl)
	// What waits for a client outlives the connection, and no topic of it may be left out for an alias.
	cl.Properties.Props.TopicAliasMaximum = 0
	// The will is the broker's.
	cl.Properties.Will = mochi.Will{}
	if c.from.Certificate != nil {
		c.connect.Until = c.from.Certificate.Expires
	}
	if c.from.Certified {
		c.connect.Certified, c.connect.Username = true, c.from.Username
	}
	id, code := s.broker.Authenticate(c.connect)
	c.identity = id
	if code == broker.CodeSuccess && lasts(cl) && s.keep.full() {
		code = broker.CodeQuotaExceeded
		s.broker.Refused("persistence_full", "client refused: there is no room on disk for its session", id.Remote, "client", id.ClientID)
	}
	if code == broker.CodeSuccess {
		return nil
	}
	_, _ = c.Write(codec.Refusal(c.connect.Version, code))
	return packets.Code{Code: code, Reason: "connection refused"}
}

func remoteOf(cl *mochi.Client) netip.AddrPort {
	a, _ := netip.ParseAddrPort(cl.Net.Remote)
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// establish begins the session, in the turn that ends with CONNACK.
func (s *Server) establish(c *conn) {
	c.beginTurn()
	c.established = true
	s.connected()
	var t *broker.Transport
	if c.stream == nil {
		t = &broker.Transport{Conn: c.TCPConn, Read: c.progress.Read.Load(), AtBoundary: c.gate.atBoundary()}
	}
	c.collect(c.client)
	c.session.Store(s.broker.Open(c.identity, c.connect, &peer{s, c.client, c}, t))
	c.connect = nil // with the password
}

// enter makes a client the one of its identifier. present: the session of the one before goes on [MQTT-3.1.4-3].
func (s *Server) enter(cl *mochi.Client) (present bool) {
	old, ok := s.mqtt.Clients.Get(cl.ID)
	if !ok {
		s.mqtt.Clients.Add(cl)
		return false
	}
	_ = s.mqtt.DisconnectClient(old, packets.ErrSessionTakenOver)
	if cl.Properties.Clean || !lasts(old) { // [MQTT-3.1.2-4], MQTT 5 section 3.1.2.11.2: it has ended with the connection
		s.end(old) // nothing of the new one has been read
		s.mqtt.Clients.Add(cl)
		return false
	}
	s.succeed(old, cl)
	return true
}

// connected counts a client, for $SYS.
func (s *Server) connected() {
	i := s.mqtt.Info
	now := atomic.AddInt64(&i.ClientsConnected, 1)
	for most := atomic.LoadInt64(&i.ClientsMaximum); now > most && !atomic.CompareAndSwapInt64(&i.ClientsMaximum, most, now); {
		most = atomic.LoadInt64(&i.ClientsMaximum)
	}
}

// left does what is to be done when a client's connection has ended, whyever: the broker hears of it, a session that ends with its
// connection is forgotten.
func (s *Server) left(c *conn, why error) {
	cl := c.client
	if cl == nil {
		return
	}
	defer s.endOnPanic(cl) // what is wrong may be wrong here, too
	cl.Stop(why)
	c.out.end()
	if !c.established {
		return
	}
	atomic.AddInt64(&s.mqtt.Info.ClientsConnected, -1)
	c.flush() // behind DISCONNECT nothing is read
	if x := c.session.Load(); x != nil {
		s.broker.Ended(x)
	}
	c.beginTurn()
	s.clock.leave(cl)
	if !s.current(cl) {
		return
	}
	if lasts(cl) {
		s.keep.left(cl)
	} else {
		s.end(cl)
	}
}
