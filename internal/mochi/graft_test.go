package mochi

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eproxy/internal/broker"
	"eproxy/internal/mqtt/samples"
)

// gone is a kernel path that takes no connections, and resets the next one.
type gone struct{ next atomic.Bool }

func (g *gone) Established(c broker.ConnInfo) broker.Graft {
	if g.next.Swap(false) {
		c.Abort()
	}
	return nil
}

// aborted is a kernel path whose connection ends while it takes it.
type aborted struct{ fakeGraft }

func (a *aborted) Established(c broker.ConnInfo) broker.Graft {
	c.Abort()
	return a.fakeGraft.Established(c)
}

// TestEndedWhileArmed: the kernel path is notified of a connection's end, though it
// comes before the session is known.
func TestEndedWhileArmed(t *testing.T) {
	a := &aborted{fakeGraft{closed: make(chan struct{})}}
	s := newStage(t, say("ok"), a, anonymous)
	write(t, s.dial(), []byte(samples.Hello(4))...)
	select {
	case <-a.closed:
	case <-time.After(20 * time.Second):
		t.Fatal("the kernel path keeps the connection")
	}
}

// TestConnectsDuringReloads: a session begins while reloads judge it (for the race
// detector).
func TestConnectsDuringReloads(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	done, reloads := make(chan struct{}), sync.WaitGroup{}
	reloads.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := s.server.Reload(s.cfg); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 100 {
		c := s.dial()
		connect(t, c, 0)
		_ = c.Close()
	}
	close(done)
	reloads.Wait()
}

// first is a kernel path that takes the first connection only.
type first struct {
	fakeGraft
	once sync.Once
}

func (f *first) Established(c broker.ConnInfo) (g broker.Graft) {
	f.once.Do(func() { g = f.fakeGraft.Established(c) })
	return g
}
