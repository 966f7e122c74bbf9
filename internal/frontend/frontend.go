// Package frontend chooses the MQTT server that a configuration asks for.
package frontend

import (
	"eproxy/internal/broker"
	"eproxy/internal/mochi"
	"eproxy/internal/relay"
)

// New makes the server: one of eproxy's own, or a relay to others.
func New(b *broker.Server) (broker.Frontend, error) {
	if b.Config().Broker.Relay() {
		return relay.New(b)
	}
	return mochi.New(b)
}
