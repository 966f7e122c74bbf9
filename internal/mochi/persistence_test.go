package mochi

import (
	"encoding/binary"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/broker"
	"eproxy/internal/config"
	"eproxy/internal/delivery"
	"eproxy/internal/request"
	"eproxy/internal/store"
)

// TestQoS2OverReconnects: the function has answered, and PUBREC had no connection to go to. Who sends the message
// again on the next one is acknowledged, and it is not delivered again.
func TestQoS2OverReconnects(t *testing.T) {
	begun, gate := make(chan struct{}, 4), make(chan struct{})
	s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		<-gate
		say("ok")(w, r)
	}, nil, anonymous)
	first := []byte{0x34, 9, 0, 4, 'i', 'n', '/', 'x', 0, 5, 'A'}
	again := append([]byte{0x3c}, first[1:]...)
	hello := []byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 0, 0, 1, 'c'}
	c := s.dial()
	write(t, c, hello...)
	want(t, c, 0x20, 2, 0, 0)
	write(t, c, first...)
	<-begun
	_ = c.Close()
	s.waitFor(func() bool { return len(s.server.Clients()) == 0 }, "the session goes on")
	close(gate)
	s.waitFor(func() bool { return s.counts.ended("delivered") == 1 }, "the message has no outcome")
	c = s.dial()
	write(t, c, hello...)
	want(t, c, 0x20, 2, 1, 0)
	write(t, c, again...)
	want(t, c, 0x50, 2, 0, 5)
	write(t, c, 0x62, 2, 0, 5)
	want(t, c, 0x70, 2, 0, 5)
	write(t, c, again...) // the identifier is free: this is another message
	want(t, c, 0x50, 2, 0, 5)
	_ = c.Close()
	c = s.dial() // whoever begins anew knows nothing of it
	hello[9] = 2
	write(t, c, hello...)
	want(t, c, 0x20, 2, 0, 0)
	write(t, c, again...)
	want(t, c, 0x50, 2, 0, 5)
	if got := s.payloads(); got != "A,A,A" {
		t.Errorf("the function got %s", got)
	}
}

// TestPersistenceFull: without room on disk nothing is acknowledged that would have to be kept, and nothing else suffers.
func TestPersistenceFull(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous, func(o *broker.Options) {
		o.Config.Persistence = config.Persistence{Dir: filepath.Join(t.TempDir(), "d"), Bytes: 1 << 10}
	})
	c := s.dial()
	write(t, c, 0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 0, 0, 1, 'c')
	want(t, c, 0x20, 2, 0, 0)
	payload := strings.Repeat("x", 1000)
	retained := append([]byte{0x33, 0xed, 7, 0, 1, 'r', 0, 1}, payload...)
	write(t, c, retained...)
	want(t, c, 0x40, 2, 0, 1)
	write(t, c, 0x32, 9, 0, 4, 'i', 'n', '/', 'x', 0, 2, 'A') // to a function
	want(t, c, 0x40, 2, 0, 2)
	d := s.dial()
	write(t, d, 0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 0, 0, 1, 'd')
	want(t, d, 0x20, 2, 0, 3)
	write(t, c, retained...)
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a message that cannot be kept was answered")
	}
	if n := s.counts.of("persistence_full"); n != 2 {
		t.Errorf("%d refusals counted", n)
	}
}

// TestPersistenceLongNames: names of any length are kept, and keep nobody waiting (the file takes keys of 32,768 bytes).
func TestPersistenceLongNames(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous, func(o *broker.Options) {
		o.Config.Persistence = config.Persistence{Dir: filepath.Join(t.TempDir(), "d"), Bytes: 1 << 20}
		o.Config.Limits.MaxPacketSize = 1 << 18
	})
	long := func(c byte) []byte { return append([]byte{0xea, 0x60}, strings.Repeat(string(c), 60000)...) }
	packet := func(kind byte, parts ...[]byte) []byte {
		body := slices.Concat(parts...)
		return append(binary.AppendUvarint([]byte{kind}, uint64(len(body))), body...)
	}
	c := s.dial()
	write(t, c, packet(0x10, []byte{0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 0, 0, 1, 'c'})...)
	want(t, c, 0x20, 2, 0, 0)
	write(t, c, packet(0x82, []byte{0, 1}, long('f'), []byte{1})...)
	want(t, c, 0x90, 3, 0, 1, 1)
	write(t, c, packet(0x33, long('r'), []byte{0, 2, 'x'})...)
	want(t, c, 0x40, 2, 0, 2)
	d := s.dial()
	write(t, d, 0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 0, 0, 1, 'd')
	want(t, d, 0x20, 2, 0, 0)
}

// TestLetterIsKept: a dead letter to a topic is done with when it is on disk for who subscribes to it, and not when the server was closed before.
func TestLetterIsKept(t *testing.T) {
	var engine *delivery.Engine
	dir := filepath.Join(t.TempDir(), "d")
	s := newStage(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }, nil, anonymous, func(o *broker.Options) {
		o.Config.Persistence = config.Persistence{Dir: dir, Bytes: 1 << 20}
		o.Config.Functions[0].DeadLetter = &config.DeadLetter{Topic: "dead"}
		engine = o.Engine
	})
	c := s.dial()
	write(t, c, 0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 0, 0, 1, 'c')
	want(t, c, 0x20, 2, 0, 0)
	write(t, c, 0x82, 9, 0, 1, 0, 4, 'd', 'e', 'a', 'd', 1)
	want(t, c, 0x90, 3, 0, 1, 1)
	deliver := func() delivery.Outcome {
		return engine.Deliver(t.Context(), s.cfg.Routes[0], &request.Message{Topic: "in/x", QoS: 1, Payload: []byte("x")})
	}
	o, kept := deliver(), 0
	err := s.front.keep.store.Range(store.Message, "c", func(string, []byte) bool { kept++; return true })
	if !o.DeadLettered || kept != 1 || err != nil {
		t.Errorf("%+v; %d on disk, %v", o, kept, err)
	}
	s.server.Close()
	if o := deliver(); o.Acked {
		t.Errorf("after the end: %+v", o)
	}
}

// TestEndingSessionIsNotKept: a session that goes on on a connection with which it is to end leaves nothing on disk, from which a crash would raise it.
func TestEndingSessionIsNotKept(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous, func(o *broker.Options) {
		o.Config.Persistence = config.Persistence{Dir: filepath.Join(t.TempDir(), "d"), Bytes: 1 << 20}
	})
	c := &client{t: t, Conn: s.dial()}
	write(t, c, []byte(hello5("c", kept, lasting)+sub5("t", 1))...)
	c.expect(packets.Connack)
	c.expect(packets.Suback)
	publish := func() {
		if err := s.front.Publish(&request.Message{Topic: "t", QoS: 1}); err != nil {
			t.Fatal(err)
		}
	}
	publish()
	c.expect(packets.Publish)
	c.Conn = s.dial()
	write(t, c, []byte(hello5("c", kept, ""))...)
	if p := c.expect(packets.Connack); p[2] != 1 {
		t.Errorf("CONNACK % x", p)
	}
	publish()
	c.expect(packets.Publish)
	s.front.keep.store.Sync()
	for _, kind := range []store.Kind{store.Session, store.Subscription, store.Message} {
		if err := s.front.keep.store.Each(kind, func(key string, _ []byte) error { t.Errorf("on disk: %q", key); return nil }); err != nil {
			t.Error(err)
		}
	}
}
