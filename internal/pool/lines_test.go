package pool

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// given is a place, and whose it is.
type given struct {
	Lease
	caller string
}

// order is that in which callers get places.
type order chan given

// ask has a caller, of the client that its name begins with, wait for a place until ctx ends.
func (o order) ask(ctx context.Context, t *testing.T, s *Standalone, caller string) {
	go func() {
		l, err := s.Acquire(ctx, "f", caller[:1], nil)
		switch {
		case err == nil:
			o <- given{l, caller}
		case ctx.Err() == nil:
			t.Error(err)
		}
	}()
	synctest.Wait()
}

// TestClientsHaveTurns: clients have one after another their turn, each with what it wanted first, however much one of
// them wants.
func TestClientsHaveTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(functions(1, podA))
		defer s.Close()
		first := acquire(t, s)
		got := make(order, 10)
		for _, name := range []string{"a0", "a1", "a2", "a3", "b0", "c0", "b1"} {
			got.ask(context.Background(), t, s, name)
		}
		first.Release()
		var served []string
		for range 7 {
			next := <-got
			served = append(served, next.caller)
			next.Release()
		}
		if want := []string{"a0", "b0", "c0", "a1", "b1", "a2", "a3"}; !slices.Equal(served, want) {
			t.Errorf("served %v, want %v", served, want)
		}
	})
}

// TestPlaceIsGivenBack: where others wait for a place that is more than the pool's share, a connection gives it back after as
// many requests as it may have at a time, though more wait; else it keeps it as long as some do.
func TestPlaceIsGivenBack(t *testing.T) {
	for _, contended := range []bool{false, true} {
		answer := make(chan struct{})
		pod := newServer(t, func(s *server, n int, c net.Conn, requests func() string) {
			<-answer
			answers(s, n, c, requests)
		})
		l := &limit{places: 1, contended: contended}
		fn := functions(1, pod.addr)
		fn[0].Pipeline = 4
		s := New(nil)
		s.ReloadShared(fn, func(string, netip.AddrPort) Place { return Place{Shared: l} })
		var b Batch
		ended := make(chan struct{}, 20)
		for i := range 20 {
			s.Send(&Call{Function: "f", Client: "c", Timeout: time.Minute, Request: fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: f\r\nContent-Length: 2\r\n\r\n%02d", i),
				Done: func(*Call, *Batch) { ended <- struct{}{} }}, &b)
		}
		b.Flush()
		close(answer)
		for range 20 {
			<-ended
		}
		s.lock(nil)
		turns := l.left
		s.unlock()
		if most := slices.Max(turns); most > 4 == contended {
			t.Errorf("contended %t: turns of %v requests", contended, turns)
		}
		_ = s.Close()
	}
}
