package mochi

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/paho"

	"eproxy/internal/config"
)

// TestDollarTopicsAreByLevel: only $SYS and $share are the server's own. Other
// names that begin so are routed, published and judged like any other.
func TestDollarTopicsAreByLevel(t *testing.T) {
	ctx := context.Background()
	s := newStage(t, say("ok"), nil, anonymous)
	c, in := s.v5("r")
	if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "$sys/#"}}}); err != nil {
		t.Fatal(err)
	}
	alias := uint16(1)
	for i, p := range []struct {
		topic string
		alias *uint16
		code  byte
	}{
		{"$SYSTEM/x", nil, 0}, {"$SYSTEM", nil, 0}, {"$sys/x", nil, 0}, {"$SYSTEM/y", &alias, 0}, {"", &alias, 0},
		{"$SYS/x", nil, 0x87}, {"$SYS", nil, 0x87}, {"$share/g/in/x", nil, 0x87},
	} {
		for _, qos := range []byte{0, 1, 2} {
			r, err := c.Publish(ctx, &paho.Publish{Topic: p.topic, QoS: qos, Payload: []byte{'0' + byte(i)}, Properties: &paho.PublishProperties{TopicAlias: p.alias}})
			if qos > 0 && (r == nil || r.ReasonCode&0x80 != p.code&0x80 || p.code != 0 && r.ReasonCode != p.code) {
				t.Errorf("%q, QoS %d: %+v (%v), want %#x", p.topic, qos, r, err, p.code)
			}
		}
	}
	for range 3 {
		if p := <-in; p.Topic != "$sys/x" || string(p.Payload) != "2" {
			t.Errorf("the subscriber got %q on %q", p.Payload, p.Topic)
		}
	}
	s.server.Drain(ctx)
	got := strings.Split(s.payloads(), ",")
	slices.Sort(got)
	if got := strings.Join(got, ""); got != "000111333444" {
		t.Errorf("the function got %s", got)
	}
}

// TestDollarTopicsNeedPermission: the name that is judged is the client's.
func TestDollarTopicsNeedPermission(t *testing.T) {
	s := newStage(t, say("ok"), nil, config.Auth{Users: []config.User{{Username: "u", PasswordHash: hashOfP, Publish: []string{"$SYSTEM/+"}}}})
	c := paho.NewClient(paho.ClientConfig{Conn: s.dial()})
	ctx := context.Background()
	if _, err := c.Connect(ctx, &paho.Connect{ClientID: "c", KeepAlive: 30, UsernameFlag: true, Username: "u", PasswordFlag: true, Password: []byte("p")}); err != nil {
		t.Fatal(err)
	}
	for name, code := range map[string]byte{"$SYSTEM/x": 0, "$SYSTEM/x/y": 0x87} {
		if r, err := c.Publish(ctx, &paho.Publish{Topic: name, QoS: 1}); r == nil || r.ReasonCode != code {
			t.Errorf("%s: %+v (%v), want %#x", name, r, err, code)
		}
	}
}
