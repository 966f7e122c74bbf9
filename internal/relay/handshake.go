package relay

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/broker"
	"eproxy/internal/codec"
	"eproxy/internal/mqtt"
	"eproxy/internal/readbuf"
	"eproxy/internal/transport"
)

// handshake reads CONNECT, takes it to a broker, and begins the session if that lets the client in.
func (c *conn) handshake(l *listener) error {
	if err := c.open(l); err != nil {
		return err
	}
	packet, err := c.readConnect()
	if err != nil {
		return err
	}
	_ = c.tcp.SetReadDeadline(time.Time{})
	pk, err := decodeConnect(packet)
	if err != nil {
		return err
	}
	connect, identity, err := c.admit(pk)
	if err != nil {
		return err
	}
	endTurn := c.server.turns.Begin(connect.ClientID)
	defer endTurn()
	w, err := c.introduce(connect.ClientID, c.forBroker(packet, pk, connect))
	if err != nil {
		return err
	}
	return c.begin(w, connect, identity)
}

// errDenied ends a connection of a client whose address a proxy named, and which is kept out.
var errDenied = errors.New("the client's address is denied")

// open reads what comes before the client's packets on its listener.
func (c *conn) open(l *listener) error {
	s, err := l.transport.Open(wire{c})
	if err != nil {
		return c.unopened(err)
	}
	c.from = *s
	if s.Certificate != nil {
		c.certificate.Store(s.Certificate)
		if err := s.Certificate.Verify(); err != nil { // files have changed meanwhile
			return c.unopened(fmt.Errorf("%w: %w", transport.ErrHandshake, err))
		}
	}
	if a := s.Remote; a.IsValid() && !c.server.broker.Admit(a.Addr()) {
		return errDenied
	}
	for early := s.Early; len(early) > 0; {
		n := copy(c.in.Room(), early)
		c.in.Added(n)
		early = early[n:]
	}
	return nil
}

// unopened counts and logs why a connection has not come to its first packet. One that just ends is none.
func (c *conn) unopened(err error) error {
	for _, w := range []struct {
		why    error
		reason string
	}{{transport.ErrHeader, "proxy_header"}, {transport.ErrHandshake, "tls_handshake"}, {transport.ErrUpgrade, "websocket_upgrade"}} {
		if errors.Is(err, w.why) && !errors.Is(err, io.EOF) {
			c.server.broker.Refused(w.reason, "connection ended: "+err.Error(), c.remote())
		}
	}
	return err
}

// readConnect reads until there is a valid CONNECT.
func (c *conn) readConnect() ([]byte, error) {
	var stream io.Reader
	if c.from.Conn != nil {
		stream = c.from.Conn
	}
	read := reader(c.raw, stream, &c.in, func() {})
	for {
		if b := c.in.Rest(); len(b) > 0 {
			n, violation := c.decoder.Step(b)
			if violation != nil {
				return nil, c.refuse(violation)
			}
			if n > 0 {
				c.in.Use(n)
				c.version = c.decoder.Version()
				return bytes.Clone(b[:n]), nil
			}
		}
		n, err := read()
		if err != nil {
			return nil, err
		}
		if stream == nil {
			c.progress.Read.Add(uint64(n))
		}
	}
}

// refuse ends the connection of a client that violated the specification, and gives it the reason where there is a packet
// for it.
func (c *conn) refuse(e *mqtt.Error) error {
	if e == mqtt.ErrAfterDisconnect {
		return io.EOF // the connection has ended; nobody cares
	}
	client := ""
	x := c.session.Load()
	if x != nil {
		client = x.ClientID
	}
	c.server.broker.Refused(e.Name(), "connection ended: "+e.Text, c.remote(), "client", client, "clause", e.Clause)
	if x != nil {
		c.end(e.Code, e.Text)
	} else {
		c.answer(codec.Violation(c.decoder.Version(), e))
	}
	return e
}

// answer writes a CONNACK that refuses the client.
func (c *conn) answer(connack []byte) {
	defer time.AfterFunc(lastWords, c.abort).Stop()
	_ = c.client.packet(connack)
	c.finish()
}

func decodeConnect(packet []byte) (*packets.Packet, error) {
	_, total, n, _ := mqtt.ReadHeader(packet)
	pk := &packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect, Remaining: total - n}}
	if err := pk.ConnectDecode(packet[n:]); err != nil {
		return nil, fmt.Errorf("CONNECT: %w", err)
	}
	return pk, nil
}

// admit asks whether the client may connect by the rules here; those of the broker come on top.
func (c *conn) admit(pk *packets.Packet) (*broker.Connect, broker.Identity, error) {
	id := pk.Connect.ClientIdentifier
	if id == "" { // the broker gives it one, of which only MQTT 5 tells
		id = "auto-" + rand.Text()
	}
	connect := codec.Connect(pk, id, c.remote())
	if c.from.Certificate != nil {
		connect.Until = c.from.Certificate.Expires
	}
	if c.from.Certified {
		connect.Certified, connect.Username = true, c.from.Username
	}
	identity, code := c.server.broker.Authenticate(connect)
	if code != broker.CodeSuccess {
		c.answer(codec.Refusal(c.version, code))
		return nil, identity, fmt.Errorf("client %q refused with code %#x", id, code)
	}
	return connect, identity, nil
}

// forBroker is the CONNECT for the broker: the client's, but for a will that is routed, which is for a function and
// stays here.
func (c *conn) forBroker(packet []byte, pk *packets.Packet, connect *broker.Connect) []byte {
	if connect.Will == nil {
		return packet
	}
	if !c.server.broker.Routed(connect.Will.Message.Topic) {
		connect.Will = nil // it is the broker's
		return packet
	}
	stripped := *pk
	stripped.FixedHeader.Type = packets.Connect
	stripped.Connect.WillFlag, stripped.Connect.WillQos, stripped.Connect.WillRetain = false, 0, false
	stripped.Mods.AllowResponseInfo = true
	var b bytes.Buffer
	if stripped.ConnectEncode(&b) != nil {
		return packet
	}
	return b.Bytes()
}

// introduce takes CONNECT to the client's broker, or to the next one that is up, and reads the answer.
func (c *conn) introduce(client string, packet []byte) (*welcome, error) {
	var why error
	for _, n := range c.server.backends.order(client) {
		b, err := n.dial(c.server.ctx)
		if err == nil {
			if !c.dialled(n, b) {
				_ = b.Close()
				return nil, errClosed
			}
			var w *welcome
			if w, err = c.ask(b, packet); err == nil {
				return w, nil
			}
			_ = b.Close()
			c.out = readbuf.Buffer{}
		}
		c.server.backends.failed(n, err)
		why = errors.Join(why, fmt.Errorf("broker %s: %w", n.Address, err))
	}
	c.server.broker.Refused("broker_down", "client refused: no broker can be used", c.remote(), "client", client)
	c.answer(codec.Refusal(c.version, broker.CodeUnavailable))
	return nil, why
}

// errRefusedSilently: a broker has closed the connection instead of answering CONNECT.
var errRefusedSilently = errors.New("the connection was closed without CONNACK")

// ask sends CONNECT and reads CONNACK, in front of whatever follows. A broker that ends the connection without one, also by
// RST, has refused the client, as 3.1.1 lets it (section 3.1.4): it is not down, or a client could say so of any broker by a
// CONNECT that brokers do not like.
func (c *conn) ask(b net.Conn, packet []byte) (*welcome, error) {
	_ = b.SetDeadline(time.Now().Add(connectTimeout))
	defer func() { _ = b.SetDeadline(time.Time{}) }()
	if err := c.upstream.packet(packet); err != nil && !hungUp(err) {
		return nil, err
	}
	for {
		rest := c.out.Rest()
		kind, total, n, e := mqtt.ReadHeader(rest)
		switch {
		case e != nil || n > 0 && (kind != packets.Connack || total > connectSize):
			return nil, errors.New("what speaks there is no MQTT broker: its first packet is no CONNACK")
		case n > 0 && len(rest) >= total:
			c.out.Use(total)
			return readWelcome(bytes.Clone(rest[:total]), c.version, c.decoder.MaxPacket)
		}
		got, err := b.Read(c.out.Room())
		c.out.Added(max(got, 0))
		switch {
		case got > 0:
		case hungUp(err):
			return &welcome{}, nil
		case err != nil:
			return nil, err
		}
	}
}

// hungUp says whether an error means that the other end has ended the connection.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// begin begins the session of a client that the broker has let in, or passes the refusal on.
func (c *conn) begin(w *welcome, connect *broker.Connect, id broker.Identity) error {
	switch {
	case w.packet == nil:
		return errRefusedSilently
	case w.code != 0:
		c.server.broker.Refused("broker_refused", "client refused by the broker", c.remote(), "client", connect.ClientID, "user", connect.Username, "code", w.code)
		c.answer(w.packet)
		return fmt.Errorf("client refused by the broker with code %#x", w.code)
	}
	if w.assigned != "" {
		connect.ClientID, id.ClientID = w.assigned, w.assigned
	}
	c.settle(w, connect)
	var t *broker.Transport
	if c.from.Conn == nil {
		t = &broker.Transport{Conn: c.tcp, Read: c.progress.Read.Load(), AtBoundary: len(c.in.Rest()) == 0}
	}
	old := c.server.enter(c, id.ClientID, w.present)
	x := c.server.broker.Open(id, connect, &peer{c}, t)
	c.backend.clients.Add(1)
	c.session.Store(x)
	if old != nil {
		go func() { // it may wait for the client
			defer old.contain()
			old.end(codeTakenOver, "session taken over")
		}()
	}
	if c.closed.Load() { // while the session had begun
		x.Stop()
		return errClosed
	}
	return c.client.packet(w.packet)
}

// settle takes over what the broker has said of the connection.
func (c *conn) settle(w *welcome, connect *broker.Connect) {
	if w.keepAlive >= 0 {
		connect.KeepAlive = w.keepAlive
	}
	if w.expiry >= 0 {
		connect.SessionExpiry = w.expiry
	}
	if w.packetSize > 0 {
		c.packetMax = w.packetSize
		c.decoder.MaxPacket = min(c.decoder.MaxPacket, w.packetSize)
	}
	c.decoder.TopicAlias = w.aliases
	c.keepAlive = connect.KeepAlive
	c.expiry = connect.SessionExpiry
	if c.version < 5 && !connect.Clean {
		c.expiry = exactLife
	}
}

// exactLife is how long open exchanges of a client of MQTT 3 are kept, whose session has no end.
const exactLife = 24 * time.Hour
