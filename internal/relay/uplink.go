package relay

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/sys/unix"

	"eproxy/internal/codec"
	"eproxy/internal/mqtt"
)

// partMost is how much is read at most of what follows DISCONNECT, in bytes.
const partMost = 64 << 10

// relay copies both ways until one end has no more.
func (c *conn) relay() error {
	c.started = true
	go c.downlink()
	c.watch()
	err := c.uplink()
	if c.goodbye.Load() { // what the broker has to say to that comes first
		if w, ok := c.broker.(interface{ CloseWrite() error }); ok {
			_ = w.CloseWrite()
		}
		t := time.NewTimer(lastWords)
		defer t.Stop()
		select {
		case <-c.done:
		case <-t.C:
		}
		c.part()
	}
	return err
}

// part ends a connection in TLS or WebSockets whose client has said goodbye: their own farewell follows DISCONNECT, and a socket that is
// closed with it unread sends RST, which a client may see before what it waits for.
func (c *conn) part() {
	if c.from.Conn == nil {
		return
	}
	c.session.Load().Stop()
	_ = c.tcp.SetDeadline(time.Now().Add(lastWords))
	c.finish()
	_, _ = io.CopyN(io.Discard, c.tcp, partMost)
}

// uplink copies what the client sends to the broker, but for what is taken.
func (c *conn) uplink() error {
	x := c.session.Load()
	var stream io.Reader
	if c.from.Conn != nil {
		stream = c.from.Conn
	}
	read := reader(c.raw, stream, &c.in, c.in.Idle)
	for {
		if err := c.forward(); err != nil {
			return err
		}
		x.Flush() // whatever follows may be waited for
		c.caughtUp()
		if full := c.acks.Full(acksWaiting); full != nil {
			<-full // or the client is disconnected, because it does not read
		}
		n, err := read()
		if err != nil {
			x.Stop()
			return err
		}
		if stream == nil {
			c.progress.Read.Add(uint64(n))
		}
		c.heard.Store(time.Now().UnixNano())
	}
}

// caughtUp is called before more is read: everything before is done with, but for a packet that goes on.
func (c *conn) caughtUp() {
	x := c.session.Load()
	if c.from.Conn == nil {
		c.progress.Use()
	}
	if c.decoder.AtBoundary() && len(c.in.Rest()) == 0 {
		x.Boundary(c.progress.Read.Load())
	} else if c.raw != nil { // a client that recovers from a loss would wait for the delayed acknowledgement
		_ = c.raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
	}
	if x.Behind() && c.unread() == 0 {
		x.CaughtUp()
	}
}

// unread is how many bytes wait in the socket.
func (c *conn) unread() (n int) {
	if c.raw != nil {
		_ = c.raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	}
	return n
}

// verdict is what becomes of the next bytes of a client's stream.
type verdict int

const (
	wait    verdict = iota // more are needed to tell
	pass                   // they go to the broker
	kept                   // they are a PUBLISH that does not
	skip                   // they do not, and nothing more is to be done
	instead                // others go there in their place
)

// forward does with what was read all that can be done with it. What passes goes in one piece, as far as it is in one.
func (c *conn) forward() error {
	b := c.in.Rest()
	from, at := 0, 0
	flush := func() error {
		run := b[from:at]
		if from = at; len(run) == 0 {
			return nil
		}
		return c.upstream.copy(run, c.decoder.AtBoundary())
	}
	defer func() { c.in.Use(at) }()
	for at < len(b) {
		var p mqtt.Publish
		v, n, other, err := c.judge(b[at:], &p)
		if err != nil {
			_ = flush()
			return err
		}
		switch v {
		case wait:
			return flush()
		case pass:
			at += n
		case kept:
			if err := flush(); err != nil { // what comes before is the broker's before anything comes of this
				return err
			}
			at += n
			from = at
			if err := c.take(bytes.Clone(b[at-n:at]), &p); err != nil {
				return err
			}
		default:
			if err := flush(); err != nil {
				return err
			}
			at += n
			from = at
			if err := c.upstream.copy(other, c.decoder.AtBoundary()); err != nil {
				return err
			}
		}
		if c.goodbye.Load() {
			_ = flush()
			return io.EOF
		}
	}
	return flush()
}

// judge decides about the packet, or a part of one, that b begins with: of n bytes, in whose place others may go.
func (c *conn) judge(b []byte, p *mqtt.Publish) (v verdict, n int, other []byte, err error) {
	begins := c.decoder.AtBoundary()
	if begins && b[0]>>4 == packets.Publish {
		return c.judgePublish(b, p)
	}
	if v, n, err = c.step(b); v != pass || !begins { // a payload goes on, whose first byte says nothing
		return v, n, nil, err
	}
	switch b[0] >> 4 {
	case packets.Pubrel:
		if id := packetID(b[:n]); c.exchanges.end(id) {
			c.reply(codec.AppendAck(nil, packets.Pubcomp, c.version, id, 0))
			return skip, n, nil, nil
		}
	case packets.Pingreq:
		c.pings.client()
	case packets.Disconnect:
		c.leave(b[:n])
	}
	return pass, n, nil, nil
}

// step checks the next packet, or part of one.
func (c *conn) step(b []byte) (verdict, int, error) {
	n, violation := c.decoder.Step(b)
	switch {
	case violation != nil:
		return wait, 0, c.refuse(violation)
	case n == 0:
		return wait, 0, nil
	}
	return pass, n, nil
}

// packetID is that of an acknowledgement, which is valid.
func packetID(packet []byte) uint16 {
	_, _, n, _ := mqtt.ReadHeader(packet)
	return uint16(packet[n])<<8 | uint16(packet[n+1])
}

// judgePublish decides about a PUBLISH by its topic. One that is kept must be there whole.
func (c *conn) judgePublish(b []byte, p *mqtt.Publish) (v verdict, n int, other []byte, err error) {
	topic := ""
	if mqtt.ReadPublish(b, c.version, p) == nil && p.Length <= c.decoder.MaxPacket && p.TopicAlias <= c.decoder.TopicAlias {
		topic = c.topicOf(p)
	}
	if topic != "" && (c.server.broker.Routed(topic) || !c.session.Load().MayPublish(topic)) {
		if len(b) < p.Length {
			return wait, 0, nil, nil
		}
		if c.decoder.Publish(b, p) > 0 {
			return kept, p.Length, nil, nil
		}
	}
	if v, n, err = c.step(b); v != pass {
		return v, n, nil, err
	}
	if other = c.letPass(b[:n], p, topic); other != nil {
		return instead, n, other, nil
	}
	return pass, n, nil, nil
}

// topicOf is the topic of a PUBLISH, without learning its alias.
func (c *conn) topicOf(p *mqtt.Publish) string {
	if len(p.Topic) == 0 && p.TopicAlias > 0 {
		return c.aliases.client[p.TopicAlias-1]
	}
	return string(p.Topic)
}

// named is the topic of a PUBLISH. An alias is learnt, and the kernel path told of it.
func (c *conn) named(p *mqtt.Publish) string {
	topic := c.aliases.resolve(p)
	if x := c.session.Load(); x != nil {
		x.Alias(p.TopicAlias, topic)
	}
	return topic
}

// letPass notes that the head of a PUBLISH passes to the broker; not nil: what goes there in its place.
func (c *conn) letPass(head []byte, p *mqtt.Publish, topic string) (other []byte) {
	c.named(p)
	if p.QoS > 0 {
		c.exchanges.end(p.PacketID) // the identifier is the broker's now
	}
	if c.aliases.pass(p, topic) {
		return withTopic(head, p, topic)
	}
	return nil
}

// take hands a PUBLISH that is whole to the rules, which have it delivered, or refused.
func (c *conn) take(packet []byte, p *mqtt.Publish) error {
	topic := c.named(p)
	if p.QoS == 2 && c.exchanges.has(p.PacketID) { // repeated before PUBREL [MQTT-4.3.3-10]
		c.reply(codec.AppendAck(nil, packets.Pubrec, c.version, p.PacketID, 0))
		return nil
	}
	pk, err := decodePublish(packet, c.version)
	if err != nil {
		return err
	}
	pk.TopicName = topic
	m := codec.Message(pk)
	x := c.session.Load()
	if c.server.broker.Publish(x, m) { // a reload came in between
		if other := c.letPass(packet[:p.Head], p, topic); other != nil {
			packet = slices.Concat(other, packet[p.Head:])
		}
		return c.upstream.copy(packet, true)
	}
	if m.Dup && c.broadcast(topic) && !c.copies.has(m.PacketID) && !x.Over() { // the copy may have got lost with the connection before
		return c.publish(m)
	}
	return nil
}

// broadcast says whether subscribers get the messages of a topic, too.
func (c *conn) broadcast(topic string) bool {
	r := c.server.broker.RouteOf(topic)
	return r != nil && r.AlsoBroker
}

func decodePublish(packet []byte, version byte) (*packets.Packet, error) {
	_, total, n, _ := mqtt.ReadHeader(packet)
	pk := &packets.Packet{ProtocolVersion: version, FixedHeader: packets.FixedHeader{
		Type: packets.Publish, Dup: packet[0]&8 != 0, Qos: packet[0] >> 1 & 3, Retain: packet[0]&1 != 0, Remaining: total - n,
	}}
	if err := pk.PublishDecode(packet[n:]); err != nil {
		return nil, fmt.Errorf("PUBLISH: %w", err)
	}
	return pk, nil
}

// leave notes the client's goodbye.
func (c *conn) leave(packet []byte) {
	x := c.session.Load()
	x.Flush() // it has said all that before
	x.Stop()
	c.goodbye.Store(true)
	if c.version == 5 {
		_, total, n, _ := mqtt.ReadHeader(packet)
		pk := packets.Packet{ProtocolVersion: 5, FixedHeader: packets.FixedHeader{Type: packets.Disconnect, Remaining: total - n}}
		if pk.DisconnectDecode(packet[n:]) == nil && pk.Properties.SessionExpiryIntervalFlag {
			c.expiry = codec.Seconds(pk.Properties.SessionExpiryInterval)
			x.SetExpiry(c.expiry)
		}
	}
	if c.decoder.Reason() != packets.CodeDisconnectWillMessage.Code {
		x.DiscardWill()
	}
}
