package pool

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"eproxy/internal/config"
)

// pods are addresses that nothing is dialled at before Do.
var podA, podB = netip.MustParseAddrPort("192.0.2.1:80"), netip.MustParseAddrPort("192.0.2.2:80")

func function(concurrency int, pods ...netip.AddrPort) []*config.Function {
	return []*config.Function{{Name: "f", Pods: pods, Concurrency: concurrency}}
}

func acquire(t *testing.T, s *Standalone) Lease {
	t.Helper()
	l, err := s.Acquire(context.Background(), "f", nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestReloadWakes: whoever waits for a place gets one as soon as a reload has
// room for it, and learns at once that there is no pod any more.
func TestReloadWakes(t *testing.T) {
	for _, c := range []struct {
		name string
		next []*config.Function
		want error
	}{
		{"more room", function(2, podA), nil},
		{"another pod", function(1, podA, podB), nil},
		{"other pods only", function(1, podB), nil},
		{"no pods", function(1), ErrNoPod},
		{"no function", nil, ErrNoPod},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(function(1, podA))
				defer s.Close()
				defer acquire(t, s).Release()
				ended := make(chan error, 1)
				go func() {
					l, err := s.Acquire(context.Background(), "f", nil)
					if err == nil {
						l.Release()
					}
					ended <- err
				}()
				synctest.Wait() // it waits
				s.Reload(c.next)
				synctest.Wait()
				select {
				case err := <-ended:
					if !errors.Is(err, c.want) {
						t.Errorf("%v, want %v", err, c.want)
					}
				default:
					t.Fatal("it still waits")
				}
			})
		})
	}
}

// TestTryAcquireDoesNotWait: no place is no wait, and pods that are to be avoided or refuse
// connections are used only if asked for.
func TestTryAcquireDoesNotWait(t *testing.T) {
	s := New(function(1, podA, podB))
	defer s.Close()
	avoid := []netip.AddrPort{podA}
	l := s.TryAcquire("f", avoid, true)
	if l == nil || l.Pod() != podB {
		t.Fatalf("%v, want a place at the pod that is not to be avoided", l)
	}
	if l := s.TryAcquire("f", avoid, true); l != nil {
		t.Errorf("a place at %s, which is to be avoided", l.Pod())
	}
	s.Distrust("f", podA)
	if l := s.TryAcquire("f", nil, true); l != nil {
		t.Errorf("a place at %s, which cannot be reached", l.Pod())
	}
	last := s.TryAcquire("f", avoid, false)
	if last == nil || last.Pod() != podA {
		t.Fatalf("%v, want a place at the last pod", last)
	}
	if l := s.TryAcquire("f", nil, false); l != nil {
		t.Errorf("a place at %s beyond its limit", l.Pod())
	}
	if l := s.TryAcquire("g", nil, false); l != nil {
		t.Error("a place at a function that is not known")
	}
}

// TestRefusingPod: a pod that refuses connections is left alone for a while that
// grows, and then tried by one message at a time; one that took a connection is
// as good as any.
func TestRefusingPod(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort(ln.Addr().String())
	_ = ln.Close() // refused from now on
	s := New(function(4, addr))
	defer s.Close()
	p := s.functions["f"][0]
	for i, want := range []time.Duration{downTime, 2 * downTime, 4 * downTime, downMost, downMost} {
		p.down = time.Time{} // the time is up
		first, second := acquire(t, s), acquire(t, s)
		if i > 0 && s.TryAcquire("f", nil, true) != nil {
			t.Error("a second message tries a pod that refused before")
		}
		began := time.Now()
		for _, l := range []Lease{first, second} { // refused at the same time: that is once
			if _, err := l.Do(context.Background(), []byte("POST / HTTP/1.1\r\n\r\n")); !errors.Is(err, ErrUnread) {
				t.Fatal(err)
			}
		}
		first.Release()
		second.Release()
		if p.down.Before(began.Add(want)) || p.down.After(time.Now().Add(want)) {
			t.Errorf("after %d failures it is left alone for %s, want %s", i+1, time.Until(p.down), want)
		}
		if s.TryAcquire("f", nil, true) != nil {
			t.Error("it is used although it refused just now")
		}
	}
	p.down = time.Time{}
	l := acquire(t, s).(*lease)
	l.dialled(nil)
	l.Release()
	if p.failures != 0 || s.TryAcquire("f", nil, true) == nil {
		t.Error("it took a connection, and is not used")
	}
}
