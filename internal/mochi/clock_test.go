package mochi

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"eproxy/internal/mqtt/samples"
	"eproxy/internal/request"
)

// later is so many seconds from now, as a clock's tick has it.
func later(seconds int64) int64 { return time.Now().Unix() + seconds }

// lasting connects client id of MQTT 5, whose session outlives its connection by so many seconds, and says whether
// there was one already.
func (s *stage) lasting(id string, seconds uint32) (c *paho.Client, present bool) {
	s.t.Helper()
	c = paho.NewClient(paho.ClientConfig{Conn: s.dial()})
	ack, err := c.Connect(context.Background(), &paho.Connect{ClientID: id, KeepAlive: 30, Properties: &paho.ConnectProperties{SessionExpiryInterval: &seconds}})
	if err != nil {
		s.t.Fatal(err)
	}
	return c, ack.SessionPresent
}

// gone disconnects a client and waits until the server knows.
func (s *stage) gone(c *paho.Client, id string) {
	s.t.Helper()
	_ = c.Disconnect(&paho.Disconnect{})
	s.waitFor(func() bool {
		cl, ok := s.front.mqtt.Clients.Get(id)
		return !ok || s.noted(func(k *clock) bool { _, ok := k.left[cl]; return ok })
	}, "the server does not notice")
}

// noted looks at the clock.
func (s *stage) noted(look func(*clock) bool) bool {
	s.front.clock.mu.Lock()
	defer s.front.clock.mu.Unlock()
	return look(s.front.clock)
}

// TestSessionsExpire: a session ends its interval after its connection, with its subscriptions, and not before.
func TestSessionsExpire(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	c, _ := s.lasting("a", 100)
	if _, err := c.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "o", QoS: 1}}}); err != nil {
		t.Fatal(err)
	}
	s.gone(c, "a")
	s.front.tick(later(90))
	c, present := s.lasting("a", 100)
	if !present {
		t.Error("the session ended early")
	}
	s.front.tick(later(1000)) // while it is connected
	s.gone(c, "a")
	s.front.tick(later(102))
	s.waitFor(func() bool { return s.front.mqtt.Topics.Subscribers("o").Subscriptions["a"].Filter == "" }, "the subscription outlives its session")
	if _, present := s.lasting("a", 100); present {
		t.Error("the session outlives its interval")
	}
}

// TestNoSessionEndsInAnothersPlace: a connection that takes a session over while its interval ends has it.
func TestNoSessionEndsInAnothersPlace(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	for i := range 50 {
		id := fmt.Sprint("a", i)
		c, _ := s.lasting(id, 100)
		s.gone(c, id)
		go s.front.tick(later(102))
		c, _ = s.lasting(id, 100)
		if _, err := c.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "o"}}}); err != nil {
			t.Fatal(err)
		}
		if s.front.mqtt.Topics.Subscribers("o").Subscriptions[id].Filter == "" {
			t.Fatal("the new connection's subscription is gone")
		}
		if _, ok := s.front.mqtt.Clients.Get(id); !ok {
			t.Fatal("the new connection is unknown")
		}
	}
}

// TestWaitingMessagesExpire: what waits for a client ends with its message expiry interval.
func TestWaitingMessagesExpire(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	c, _ := s.lasting("a", 1000)
	if _, err := c.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "o", QoS: 1}}}); err != nil {
		t.Fatal(err)
	}
	s.gone(c, "a")
	other, _ := s.v5("b")
	interval := uint32(100)
	if _, err := other.Publish(t.Context(), &paho.Publish{Topic: "o", QoS: 1, Properties: &paho.PublishProperties{MessageExpiry: &interval}}); err != nil {
		t.Fatal(err)
	}
	cl, _ := s.front.mqtt.Clients.Get("a")
	s.waitFor(func() bool { return cl.State.Inflight.Len() == 1 }, "nothing waits")
	s.front.tick(later(90))
	if cl.State.Inflight.Len() != 1 {
		t.Error("the message ended early")
	}
	s.front.tick(later(102))
	if cl.State.Inflight.Len() != 0 {
		t.Error("the message outlives its interval")
	}
}

// TestRetainedExpire: a retained message ends with its interval, on whatever way it was retained; one without
// stays.
func TestRetainedExpire(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	c, _ := s.v5("r")
	interval := uint32(100)
	for topic, p := range map[string]*paho.PublishProperties{"brief": {MessageExpiry: &interval}, "in/brief": {MessageExpiry: &interval}, "long": nil} {
		if _, err := c.Publish(t.Context(), &paho.Publish{Topic: topic, QoS: 1, Retain: true, Payload: []byte("x"), Properties: p}); err != nil {
			t.Fatal(err)
		}
	}
	has := func(topic string) bool { _, ok := s.front.mqtt.Topics.Retained.Get(topic); return ok }
	s.front.tick(later(90))
	for _, topic := range []string{"brief", "in/brief", "long"} {
		if !has(topic) {
			t.Errorf("%s ended early", topic)
		}
	}
	s.front.tick(later(102))
	s.front.tick(later(1e6))
	if has("brief") || has("in/brief") || !has("long") {
		t.Errorf("brief %v, in/brief %v, long %v", has("brief"), has("in/brief"), has("long"))
	}
}

// TestIdleClientsAreNotLookedAt: clients that are connected, and for which nothing waits, are nothing to the clock; nor
// is a client whose messages are all acknowledged.
func TestIdleClientsAreNotLookedAt(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	for i := range 20 {
		write(t, s.dial(), []byte(samples.Connect(4, 0, samples.String(fmt.Sprint(i))))...)
	}
	s.waitFor(func() bool { return s.front.mqtt.Clients.Len() == 20 }, "not all are connected")
	sub, in := s.v5("sub")
	if _, err := sub.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "o", QoS: 1}}}); err != nil {
		t.Fatal(err)
	}
	if err := s.front.Publish(&request.Message{Topic: "o", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	<-in
	cl, _ := s.front.mqtt.Clients.Get("sub")
	s.waitFor(func() bool { return cl.State.Inflight.Len() == 0 }, "not acknowledged")
	s.front.tick(later(0))
	if !s.noted(func(k *clock) bool { return len(k.left)+len(k.holding) == 0 && k.retained == nothing }) {
		t.Error("the clock looks at idle clients")
	}
}

// TestSysTopics: what the server knows of itself is there for whoever subscribes, and counts as nothing received.
func TestSysTopics(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	s.waitFor(func() bool { return s.front.mqtt.Topics.Retained.Len() >= 20 }, "no $SYS topics")
	before := s.front.mqtt.Info.Clone()
	c, in := s.v5("c")
	if _, err := c.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "$SYS/broker/clients/connected"}}}); err != nil {
		t.Fatal(err)
	}
	<-in // as of the start
	s.front.publishSys(time.Now())
	if p := <-in; string(p.Payload) != "1" {
		t.Errorf("connected: %q, want 1", p.Payload)
	}
	if after := s.front.mqtt.Info.Clone(); after.MessagesReceived != before.MessagesReceived {
		t.Errorf("%d messages received, %d before", after.MessagesReceived, before.MessagesReceived)
	}
}

// TestWaitingCopiesExpire: so does what waits of a copy that the server gives subscribers.
func TestWaitingCopiesExpire(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	c, _ := s.lasting("a", 1000)
	if _, err := c.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "o", QoS: 1}}}); err != nil {
		t.Fatal(err)
	}
	s.gone(c, "a")
	if err := s.front.Copy(&request.Message{Topic: "o", QoS: 1, MessageExpiry: 100}); err != nil {
		t.Fatal(err)
	}
	cl, _ := s.front.mqtt.Clients.Get("a")
	for _, at := range []struct {
		after int64 // seconds
		wait  int
	}{{90, 1}, {102, 0}} {
		if s.front.tick(later(at.after)); cl.State.Inflight.Len() != at.wait {
			t.Errorf("%d messages wait after %d s, want %d", cl.State.Inflight.Len(), at.after, at.wait)
		}
	}
}

// TestClientsAreCounted: $SYS counts clients and nobody else, whatever they are called.
func TestClientsAreCounted(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	c := s.dial()
	write(t, c, []byte(hello5("inline", kept, lasting)+sub5("t", 0))...)
	if p := packet(t, c); p[0] != 0x20 || p[2] != 0 {
		t.Errorf("CONNACK % x", p)
	}
	packet(t, c)
	s.front.publishSys(time.Now())
	if n := s.front.mqtt.Info.Clone().ClientsTotal; n != 1 {
		t.Errorf("%d clients", n)
	}
}
