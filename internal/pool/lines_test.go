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

// TestClientsHaveTurns: clients have one after another their turn, each with what it wanted first, however much one of
// them wants.
func TestClientsHaveTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(functions(1, podA))
		defer s.Close()
		first := acquire(t, s)
		type got struct {
			name string
			l    Lease
		}
		turns := make(chan got, 10)
		for _, name := range []string{"a0", "a1", "a2", "a3", "b0", "c0", "b1"} {
			go func() {
				l, err := s.Acquire(context.Background(), "f", name[:1], nil)
				if err != nil {
					t.Error(err)
				}
				turns <- got{name, l}
			}()
			synctest.Wait()
		}
		first.Release()
		var served []string
		for range 7 {
			g := <-turns
			served = append(served, g.name)
			g.l.Release()
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
