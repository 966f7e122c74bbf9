package netns

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"eproxy/internal/mqtt/samples"
	"eproxy/test/lib/lab"
)

// TestRelayedReasons: why the broker ends a connection, or refuses a message, its client hears from it, byte for byte as from the broker itself.
func TestRelayedReasons(t *testing.T) {
	x := newRelayed(t, "tc", "allow_anonymous true\nretain_available false\nmax_qos 1\nmax_topic_alias 4\n", "")
	publish := func(first byte, topic, rest string) string {
		return samples.Packet(first, samples.String(topic), rest)
	}
	for name, c := range map[string]struct {
		packet string
		want   []byte // how it begins
	}{
		"RETAIN":          {publish(0x31, "a", "\x00m"), []byte{0xe0, 1, 0x9a}},
		"QoS 2":           {publish(0x34, "a", "\x00\x01\x00m"), []byte{0xe0, 1, 0x9b}},
		"topic of nobody": {publish(0x32, "a", "\x00\x01\x00m") + "\xe0\x00", []byte{0x40, 3, 0, 1, 0x10}},
	} {
		direct, through := x.exchange(t, lab.Node, "127.0.0.1:1884", c.packet), x.exchange(t, lab.Dev, net.JoinHostPort(lab.NodeV4.String(), "1883"), c.packet)
		if !bytes.Equal(direct, through) || !bytes.HasPrefix(through, c.want) {
			t.Errorf("%s: % x, from the broker % x, want % x", name, through, direct, c.want)
		}
	}
}

// exchange is all that a client of MQTT 5 is sent behind CONNACK for a packet, until the connection ends.
func (x *relayed) exchange(t *testing.T, from lab.Role, address, packet string) []byte {
	t.Helper()
	conn, err := x.lab.Dial(t.Context(), from, address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(clientTimeout))
	c := &rawConn{conn, t}
	c.write([]byte(samples.Connect(5, 2, samples.Properties(), samples.String("c"))))
	c.packet()
	c.write([]byte(packet))
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("% x, then %v", b, err)
	}
	return b
}

// TestRelayedSessionsOverRestart: what a broker keeps over its restart, sessions and what waits in them, its clients find again.
func TestRelayedSessionsOverRestart(t *testing.T) {
	x := newRelayed(t, "tc", "allow_anonymous true\npersistence true\npersistence_location "+t.TempDir()+"/\n", "")
	expiry := uint32(3600)
	lasting := &paho.Connect{ClientID: "sub", KeepAlive: 60, Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry}}
	sub, _, _ := x.connect(t, lasting)
	subscribe5(t, sub, "plain", 1)
	if err := sub.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}
	pub := newEnding(t, x.lab, "pub")
	publish5(t, pub.Client, &paho.Publish{Topic: "plain", QoS: 1, Payload: []byte("kept")})
	if err := x.broker.run.Stop(); err != nil {
		t.Fatal(err)
	}
	<-pub.ended
	x.broker.start()
	_, ack, in := x.connect(t, lasting)
	if !ack.SessionPresent {
		t.Error("the session has not gone on")
	}
	expectPayload(t, in, "kept")
	again := newEnding(t, x.lab, "pub")
	publish5(t, again.Client, &paho.Publish{Topic: "sensors/pub/temp", QoS: 1, Payload: []byte("routed")})
	x.functions.wait(t, 1)
}
