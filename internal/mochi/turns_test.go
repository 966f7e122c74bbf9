package mochi

import (
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"eproxy/internal/mqtt/samples"
)

// TestConnackNotWritten: a client that goes before its CONNACK leaves nothing behind.
func TestConnackNotWritten(t *testing.T) {
	g := &gone{}
	s := newStage(t, say("ok"), g, anonymous)
	watcher, in := s.v5("watcher")
	if _, err := watcher.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "wills"}}}); err != nil {
		t.Fatal(err)
	}
	for _, will := range []string{"first", "second"} {
		c := s.dial()
		g.next.Store(true)
		write(t, c, []byte(samples.Connect(4, 6, samples.String("c"), samples.String("wills"), samples.String(will)))...)
		select {
		case p := <-in:
			if string(p.Payload) != will {
				t.Errorf("will %q", p.Payload)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the will is not published")
		}
		s.waitFor(func() bool {
			_, kept := s.front.mqtt.Clients.Get("c")
			return !kept && len(s.server.Clients()) == 1
		}, "the session is kept")
	}
}

// TestSimultaneousConnects: of connections with one client identifier that come while
// the client's old one cannot be ended yet, the last one stays, and it is known.
func TestSimultaneousConnects(t *testing.T) {
	f := &first{fakeGraft: fakeGraft{closed: make(chan struct{})}}
	s := newStage(t, say("ok"), f, anonymous)
	s.deaf(&f.fakeGraft, 0)
	session := func() string {
		for _, c := range s.server.Clients() {
			if c.ClientID == "c" {
				return c.Remote
			}
		}
		return ""
	}
	second, third := s.dial(), s.dial()
	connect := []byte(samples.Connect(5, 2, samples.Properties(), samples.String("c")))
	write(t, second, connect...)
	s.waitFor(func() bool { return session() == second.LocalAddr().String() }, "the second has no session")
	write(t, third, connect...)
	if p := packet(t, third); p[0] != 0x20 || p[3] != 0 {
		t.Fatalf("the third was answered with % x", p)
	}
	if got := session(); got != third.LocalAddr().String() {
		t.Errorf("the session is that of %s", got)
	}
	readAll(t, second)
	s.waitFor(func() bool { return s.front.mqtt.Info.Clone().ClientsConnected == 1 }, "the second has not ended")
	if cl, ok := s.front.mqtt.Clients.Get("c"); !ok || cl.Net.Remote != third.LocalAddr().String() {
		t.Error("the third is forgotten")
	}
	if !s.server.Kick("c") {
		t.Error("nobody to kick")
	}
	readAll(t, third)
}
