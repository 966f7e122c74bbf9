package mochi

import (
	"bytes"
	"io"
	"net/netip"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/codec"
	"eproxy/internal/mqtt"
)

// refuseTimeout is how long a client may take to accept the reason why its
// connection ends.
const refuseTimeout = time.Second

// refuse ends the connection of a client that violated the specification, and
// gives it the reason where there is a packet for it. Returns the error of Read.
func (c *conn) refuse(e *mqtt.Error) error {
	if e == mqtt.ErrAfterDisconnect {
		return io.EOF // the connection has ended; nobody cares
	}
	c.stop()
	c.server.violated(c, e)
	switch {
	case !c.established:
		defer time.AfterFunc(refuseTimeout, c.abort).Stop()
		_, _ = c.Write(codec.Violation(c.gate.Version(), e))
	case c.gate.Version() == 5:
		_ = c.server.mqtt.DisconnectClient(c.client, packets.Code{Code: e.Code, Reason: e.Text}) // [MQTT-4.13.1-1]
	}
	return e
}

// sendDisconnect writes DISCONNECT in front of everything that the client has not
// been sent yet, and nothing can be written behind it [MQTT-3.14.4-1]. The
// connection ends anyway: a client that does not read, and with it a writer that
// holds the lock, keeps nobody waiting longer than refuseTimeout.
func sendDisconnect(cl *mochi.Client, pk packets.Packet) {
	var b bytes.Buffer
	c, ok := cl.Net.Conn.(*conn)
	if !ok || pk.DisconnectEncode(&b) != nil {
		return
	}
	defer time.AfterFunc(refuseTimeout, c.abort).Stop()
	cl.Lock() // whole packets only are written under it
	defer cl.Unlock()
	_, _ = c.write(b.Bytes())
	c.farewell()
	_ = c.CloseWrite()
}

// violated counts and logs a violation.
func (s *Server) violated(c *conn, e *mqtt.Error) {
	client := ""
	if c.client != nil {
		client = c.client.ID
	}
	remote, _ := netip.ParseAddrPort(c.RemoteAddr().String())
	s.broker.Refused(e.Name(), "connection ended: "+e.Text, remote, "client", client, "clause", e.Clause)
}
