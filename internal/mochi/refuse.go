package mochi

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

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
		_ = c.SetWriteDeadline(time.Now().Add(refuseTimeout))
		_, _ = c.Write(connack(c.gate.Version(), e))
	case c.gate.Version() == 5:
		_ = c.server.mqtt.DisconnectClient(c.client, packets.Code{Code: e.Code, Reason: e.Text}) // [MQTT-4.13.1-1]
	}
	return e
}

// sendDisconnect writes DISCONNECT in front of everything that the client has not
// been sent yet, and nothing can be written behind it [MQTT-3.14.4-1]. The
// connection ends anyway: a client that does not read does not keep anybody waiting.
func sendDisconnect(cl *mochi.Client, pk packets.Packet) {
	var b bytes.Buffer
	c, ok := cl.Net.Conn.(*conn)
	if !ok || pk.DisconnectEncode(&b) != nil {
		return
	}
	_ = c.SetWriteDeadline(time.Now().Add(refuseTimeout))
	cl.Lock() // whole packets only are written under it
	defer cl.Unlock()
	_, _ = c.Write(b.Bytes())
	_ = c.CloseWrite()
}

// connack is the CONNACK that refuses a CONNECT; empty where there is none to
// send [MQTT-3.1.4-1 of MQTT 3.1.1].
func connack(version byte, e *mqtt.Error) []byte {
	switch {
	case version == 5:
		return []byte{packets.Connack << 4, 3, 0, e.Code, 0}
	case e.Connack != 0:
		return []byte{packets.Connack << 4, 2, 0, e.Connack}
	}
	return nil
}

// violated counts a violation. The first of its kind is logged where everybody
// sees it, the others for those who look for them: anybody can send any number.
func (s *Server) violated(c *conn, e *mqtt.Error) {
	level := slog.LevelDebug
	if _, logged := s.logged.LoadOrStore(e, struct{}{}); !logged {
		level = slog.LevelWarn
	}
	client := ""
	if c.client != nil {
		client = c.client.ID
	}
	s.log.Log(context.Background(), level, "connection ended: "+e.Text, "client", client, "remote", c.RemoteAddr(), "clause", e.Clause)
	if e.Code == mqtt.CodeMalformed {
		s.broker.Refused("malformed")
	} else {
		s.broker.Refused("protocol_error")
	}
}
