package mochi

import (
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/broker"
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
	case mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnQosComplete, mqtt.OnQosDropped, mqtt.OnUnsubscribed:
		return true
	}
	return false
}

// OnQosComplete is called when a message of QoS 1 or 2 has ended.
func (h *hook) OnQosComplete(cl *mqtt.Client, pk packets.Packet) { h.s.keep.settled(cl, pk.PacketID) }

// OnQosDropped is called when it has expired, or its session has ended.
func (h *hook) OnQosDropped(cl *mqtt.Client, pk packets.Packet) { h.s.keep.settled(cl, pk.PacketID) }

// OnUnsubscribed is called before UNSUBACK, and for what a session that has ended leaves.
func (h *hook) OnUnsubscribed(cl *mqtt.Client, pk packets.Packet) {
	h.s.keep.unsubscribed(cl, pk.Filters)
}

// sessionOf is a client's session; nil for one that was restored.
func sessionOf(cl *mqtt.Client) *broker.Session {
	if c, ok := cl.Net.Conn.(*conn); ok {
		return c.session.Load()
	}
	return nil
}
