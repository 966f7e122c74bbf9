package mochi

import (
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"eproxy/internal/broker"
	"eproxy/internal/config"
	"eproxy/internal/mqtt/samples"
	"eproxy/internal/store"
)

// returns fails the test unless f returns.
func returns(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s does not return", what)
	}
}

// TestCloseWhileASessionBegins: a client that is just taking its session over,
// while the server closes, keeps nobody waiting.
func TestCloseWhileASessionBegins(t *testing.T) {
	busy, release := make(chan struct{}, 100), make(chan struct{})
	s := newStage(t, func(http.ResponseWriter, *http.Request) {
		busy <- struct{}{}
		<-release
	}, nil, anonymous)
	defer close(release)
	first := s.dial()
	write(t, first, []byte(samples.Hello(4))...)
	want(t, first, 0x20, 2, 0, 0)
	for i := range 40 { // more than it has places for: the rest is not read
		write(t, first, []byte(samples.Packet(0x32, samples.String("in/x"), string([]byte{0, byte(i + 1)}), "p"))...)
	}
	<-busy
	second := s.dial()
	write(t, second, []byte(samples.Hello(4))...)
	s.waitFor(func() bool { return len(s.front.live.all()) == 2 }, "the second connection is not served")
	go func() { _, _ = io.Copy(io.Discard, second) }()
	returns(t, "Close", s.server.Close)
}

// TestDeafSubscriberBoundsPublishers: a publisher of QoS 1 waits for a subscriber
// that does not read, but not for ever, whatever its keep-alive.
func TestDeafSubscriberBoundsPublishers(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	s.front.stall = 100 * time.Millisecond
	deaf := s.dial()
	write(t, deaf, []byte(samples.Hello(4)+samples.Packet(0x82, "\x00\x01", samples.String("t"), "\x01"))...)
	want(t, deaf, 0x20, 2, 0, 0, 0x90, 3, 0, 1, 1)
	conn := s.dial()
	write(t, conn, []byte(samples.Connect(4, 2, samples.String("publisher")))...)
	want(t, conn, 0x20, 2, 0, 0)
	payload := string(make([]byte, 60_000))
	returns(t, "publishing", func() {
		for i := range 300 {
			id := []byte{byte(i >> 8), byte(i + 1)}
			if id[1] == 0 {
				id[1] = 1
			}
			write(t, conn, []byte(samples.Packet(0x32, samples.String("t"), string(id), payload))...)
			want(t, conn, 0x40, 2, id[0], id[1])
		}
	})
}

// TestCloseWaits: when the server is closed every connection has been left, and its session is on disk with the time; one that does not end is waited for
// so long and no longer.
func TestCloseWaits(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	s := newStage(t, say("ok"), nil, anonymous, func(o *broker.Options) {
		o.Config.Persistence = config.Persistence{Dir: dir, Bytes: 1 << 20}
	})
	const n = 100
	for i := range n {
		c := s.dial()
		write(t, c, []byte(hello5(strconv.Itoa(i), kept, lasting))...)
		packet(t, c)
	}
	s.server.Close()
	if left := len(s.front.live.all()); left > 0 {
		t.Errorf("%d connections go on", left)
	}
	st, err := store.Open(dir, 1<<20, s.front.log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	left := 0
	if err := each(st, store.Session, func(_, _ string, r *keptSession) {
		if r.Left > 0 {
			left++
		}
	}); err != nil || left != n {
		t.Errorf("%d of %d sessions were left, %v", left, n, err)
	}
}

// TestCloseWaitsNotForEver: a connection that does not end is named, and keeps nobody.
func TestCloseWaitsNotForEver(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	s.front.closing = time.Millisecond
	c := s.dial()
	write(t, c, []byte(hello5("c", kept, lasting))...)
	packet(t, c)
	defer s.front.turns.Begin("c")()
	returns(t, "Close", s.server.Close)
	if log := s.log.String(); !strings.Contains(log, "connections have not ended") {
		t.Error(log)
	}
}
