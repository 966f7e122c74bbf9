package mochi

import (
	"testing"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// TestAliasKeepsNoPacket: the name that an alias stands for is no part of the packet that it came in, which may be large.
func TestAliasKeepsNoPacket(t *testing.T) {
	cl := &mochi.Client{}
	cl.State.TopicAliases.Inbound = mochi.NewInboundTopicAliases(topicAliases)
	c := &conn{client: cl}
	pk := packets.Packet{ProtocolVersion: 5, FixedHeader: packets.FixedHeader{Type: packets.Publish}}
	body := []byte("\x00\x05topic\x03\x23\x00\x01a large payload")
	if err := pk.PublishDecode(body); err != nil {
		t.Fatal(err)
	}
	c.resolve(&pk)
	clear(body)
	if name := cl.State.TopicAliases.Inbound.Set(1, ""); name != "topic" {
		t.Errorf("the packet's bytes are kept: %q", name)
	}
}
