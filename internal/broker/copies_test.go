package broker

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"eproxy/internal/request"
)

// slowFront gives subscribers nothing before it may.
type slowFront struct {
	Frontend
	may chan struct{}
	mu  sync.Mutex
	got []string
}

func (f *slowFront) Message(_ byte, packet []byte) (*request.Message, error) {
	if string(packet) == "bad" {
		return nil, fmt.Errorf("bad")
	}
	return &request.Message{Payload: packet}, nil
}

func (f *slowFront) Copy(m *request.Message) error {
	<-f.may
	f.mu.Lock()
	defer f.mu.Unlock()
	f.got = append(f.got, string(m.Payload))
	return nil
}

// countingGraft has made some copies, and notes what it is told of them.
type countingGraft struct {
	Graft
	made           uint32
	behind, clears int
}

func (g *countingGraft) Copies() uint32    { return g.made }
func (g *countingGraft) Behind()           { g.behind++ }
func (g *countingGraft) Boundary(uint64)   {}
func (g *countingGraft) Clear(uint64) bool { g.clears++; return true }

func newCopying(made uint32) (*Session, *slowFront, *countingGraft) {
	f, g := &slowFront{may: make(chan struct{})}, &countingGraft{made: made}
	s := &Server{front: f, log: slog.New(slog.DiscardHandler), copying: make(chan struct{}, copiesMax)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return &Session{server: s, graft: g}, f, g
}

// TestCopiesComeFirst: what is published for a client waits until subscribers have its copies, in order; one that cannot be read holds nothing up, and the
// caller's memory is its own again.
func TestCopiesComeFirst(t *testing.T) {
	x, f, _ := newCopying(4)
	b := []byte("0")
	x.copied(b)
	b[0] = 'x'
	x.copied([]byte("1"))
	x.copied([]byte("bad"))
	settled := make(chan []string)
	go func() {
		x.settleCopies(t.Context())
		f.mu.Lock()
		defer f.mu.Unlock()
		settled <- slices.Clone(f.got)
	}()
	x.copied([]byte("2"))
	close(f.may)
	if got := <-settled; !slices.Equal(got, []string{"0", "1", "2"}) {
		t.Errorf("subscribers had %q", got)
	}
	if n := len(x.server.copying); n != 0 {
		t.Errorf("%d copies are said to wait", n)
	}
}

// TestCopiesOfEndedServer: who waits for copies waits no longer than the server is there.
func TestCopiesOfEndedServer(t *testing.T) {
	x, f, _ := newCopying(1)
	x.copied([]byte("0"))
	x.server.cancel()
	x.settleCopies(t.Context())
	close(f.may)
}

// TestSlowSubscriber: with too many copies of a client waiting the programs make no more of them, until the server has caught up.
func TestSlowSubscriber(t *testing.T) {
	x, f, g := newCopying(2 * copiesHeld)
	for i := range 2 * copiesHeld {
		x.copied(fmt.Append(nil, i))
	}
	if g.behind != 1 {
		t.Errorf("told %d times that the client is behind", g.behind)
	}
	if x.Boundary(1); g.clears != 0 {
		t.Error("the programs may make copies again while as many wait")
	}
	close(f.may)
	x.settleCopies(t.Context())
	if x.Boundary(2); g.clears != 1 {
		t.Errorf("the programs may make copies again: told %d times", g.clears)
	}
}
