package pool

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/depth"
	"eproxy/test/lib/address"
	"eproxy/test/lib/bubble"
)

// pods are addresses that nothing is dialled at before Do.
var podA, podB = netip.MustParseAddrPort("192.0.2.1:80"), netip.MustParseAddrPort("192.0.2.2:80")

func functions(concurrency int, pods ...netip.AddrPort) []*config.Function {
	return []*config.Function{{Name: "f", Pods: pods, Concurrency: concurrency}}
}

func acquire(t *testing.T, s *Standalone) Lease {
	t.Helper()
	l, err := s.Acquire(context.Background(), "f", "c", nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestReloadWakes: whoever waits for a place gets one as soon as a reload has
// room for it, and learns at once that there is no such function any more.
func TestReloadWakes(t *testing.T) {
	for _, c := range []struct {
		name string
		next []*config.Function
		want error
	}{
		{"more room", functions(2, podA), nil},
		{"another pod", functions(1, podA, podB), nil},
		{"other pods only", functions(1, podB), nil},
		{"no function", nil, ErrNoPod},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(functions(1, podA))
				defer s.Close()
				defer acquire(t, s).Release()
				ended := make(chan error, 1)
				go func() {
					l, err := s.Acquire(context.Background(), "f", "c", nil)
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

// TestNoPodYet: a function whose pods are not known yet, or are all gone, keeps who
// waits for a place, in order; it gets one from the first pod there is.
func TestNoPodYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(functions(1))
		defer s.Close()
		got := make(chan int, 2)
		for i := range 2 {
			go func() {
				l, err := s.Acquire(context.Background(), "f", "c", nil)
				if err != nil {
					t.Error(err)
					return
				}
				got <- i
				l.Release()
			}()
			synctest.Wait()
		}
		s.Reload(functions(1))
		synctest.Wait()
		if len(got) != 0 {
			t.Fatal("a place at no pod")
		}
		s.Reload(functions(1, podA))
		synctest.Wait()
		if a, b := <-got, <-got; a != 0 || b != 1 {
			t.Errorf("served in the order %d, %d", a, b)
		}
	})
}

// at asks for a place at once: nil if there is none.
func at(t *testing.T, s *Standalone, avoid ...netip.AddrPort) Lease {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	l, err := s.Acquire(ctx, "f", "c", avoid)
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return l
}

// TestNearPodsFirst: pods on other nodes get what those near by have no place for, also where they
// are used by nobody else; any where the function says so. One that is to be avoided is the last of all.
func TestNearPodsFirst(t *testing.T) {
	for _, topology := range []string{config.TopologyLocal, config.TopologyAny} {
		fns := functions(1, podA, podB)
		fns[0].Topology = topology
		first := make(map[netip.AddrPort]int)
		for range 50 {
			s := New(nil)
			s.ReloadShared(fns, func(_ string, a netip.AddrPort) Place {
				if a == podB {
					return Place{Shared: &limit{places: 1}}
				}
				return Place{Far: true}
			})
			one := at(t, s)
			two := at(t, s)
			if one == nil || two == nil || one.Pod() == two.Pod() {
				t.Fatalf("%s: %v and %v, want a place at each pod", topology, one, two)
			}
			first[one.Pod()]++
			one.Release()
			two.Release()
			if l := at(t, s, podB); l == nil || l.Pod() != podA {
				t.Errorf("%s: %v, want the one that is not to be avoided", topology, l)
			}
			s.Close()
		}
		if near := first[podB]; (near == 50) != (topology == config.TopologyLocal) {
			t.Errorf("%s: the pod near by had the first place %d of 50 times", topology, near)
		}
	}
}

// TestSleepersLast: a pod is woken only if no other has a place, however many places it has.
func TestSleepersLast(t *testing.T) {
	for range 50 {
		s := New(nil)
		s.ReloadShared(functions(1, podA, podB), func(_ string, a netip.AddrPort) Place {
			return Place{Shared: &limit{places: map[netip.AddrPort]int{podA: 9, podB: 1}[a], asleep: a == podA}}
		})
		for _, want := range []netip.AddrPort{podB, podA} {
			l := at(t, s)
			if l == nil || l.Pod() != want {
				t.Fatalf("%v, want a place at %v", l, want)
			}
			defer l.Release()
		}
		defer s.Close()
	}
}

// TestWhichPod: pods that are to be avoided are used when no others have a place,
// those that cannot be reached only if none can.
func TestWhichPod(t *testing.T) {
	s := New(functions(1, podA, podB))
	defer s.Close()
	l := at(t, s, podA)
	if l == nil || l.Pod() != podB {
		t.Fatalf("%v, want a place at the pod that is not to be avoided", l)
	}
	last := at(t, s, podA)
	if last == nil || last.Pod() != podA {
		t.Fatalf("%v, want a place at the last pod", last)
	}
	if l := at(t, s); l != nil {
		t.Errorf("a place at %s beyond its limit", l.Pod())
	}
	last.Release()
	unreachable := func(pods ...netip.AddrPort) {
		s.ReloadShared(functions(1, podA, podB), func(_ string, a netip.AddrPort) Place { return Place{NoRoute: slices.Contains(pods, a)} })
	}
	unreachable(podA)
	if l := at(t, s); l != nil {
		t.Errorf("a place at %s, which cannot be reached, while others are only in use", l.Pod())
	}
	unreachable(podA, podB)
	l = at(t, s)
	if l == nil || l.Pod() != podA {
		t.Fatalf("%v, want the last place at pods none of which can be reached", l)
	}
	l.Release()
	unreachable(podB)
	if l := at(t, s); l == nil || l.Pod() != podA {
		t.Errorf("%v, want a place at the pod that can be reached again", l)
	}
	if _, err := s.Acquire(context.Background(), "g", "c", nil); !errors.Is(err, ErrNoPod) {
		t.Errorf("a function that is not known: %v", err)
	}
}

// TestRefusingPod: a pod that refuses connections is left alone for a while that
// grows, and then tried by one message at a time; one that took a connection is
// as good as any.
func TestRefusingPod(t *testing.T) {
	addr := netip.MustParseAddrPort(address.Free(t)) // refused
	s := New(functions(4, addr, podB))
	defer s.Close()
	p := s.functions["f"].pods[0]
	here := func() *lease { // a place at the pod, the other one avoided
		l, _ := at(t, s, podB).(*lease)
		if l.pod == p {
			return l
		}
		l.Release()
		return nil
	}
	for i, want := range []time.Duration{downTime, 2 * downTime, 4 * downTime, downMost, downMost} {
		p.down = time.Time{} // the time is up
		first := here()
		if first == nil {
			t.Fatal("it is not tried again")
		}
		if second := here(); (second != nil) != (i == 0) {
			t.Errorf("refused %d times, and a second message tries it: %t", i, second != nil)
		} else if second != nil {
			second.Release()
		}
		began := time.Now()
		for range 2 { // refused at the same time: that is once
			if _, err := first.Do(context.Background(), []byte("POST / HTTP/1.1\r\n\r\n")); !errors.Is(err, ErrUnread) {
				t.Fatal(err)
			}
		}
		first.Release()
		if p.down.Before(began.Add(want)) || p.down.After(time.Now().Add(want)) {
			t.Errorf("after %d failures it is left alone for %s, want %s", i+1, time.Until(p.down), want)
		}
		if here() != nil {
			t.Error("it is used although it refused just now")
		}
	}
	l := &lease{pool: s, function: "f", pod: p}
	l.dialled(nil)
	if p.failures != 0 || here() == nil {
		t.Error("it took a connection, and is not used")
	}
}

// TestFirstComeFirstServed: places are given in the order in which callers came. Who
// comes later does not overtake, and who gives up leaves nothing behind.
func TestFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(functions(1, podA))
		defer s.Close()
		first := acquire(t, s)
		got := make(order, 10)
		ctx, cancel := context.WithCancel(context.Background())
		for i := range 5 {
			c := context.Background()
			if i == 1 || i == 4 {
				c = ctx
			}
			got.ask(c, t, s, fmt.Sprint("c", i))
		}
		cancel()
		synctest.Wait()
		first.Release()
		if l := at(t, s); l != nil {
			t.Error("who comes later has overtaken")
		}
		for _, want := range []string{"c0", "c2", "c3"} {
			synctest.Wait()
			next := <-got
			if next.caller != want {
				t.Errorf("turn of %s, want %s", next.caller, want)
			}
			if len(got) > 0 {
				t.Error("two have the only place")
			}
			next.Release()
		}
		acquire(t, s).Release()
	})
}

// TestTurnComesAsCallerLeaves: a place that comes at the moment when its caller gives up
// is the next one's.
func TestTurnComesAsCallerLeaves(t *testing.T) {
	for range 200 {
		s := New(functions(1, podA))
		first := acquire(t, s)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan Lease, 1)
		go func() {
			l, _ := s.Acquire(ctx, "f", "c", nil)
			ended <- l
		}()
		go cancel()
		first.Release()
		if l := <-ended; l != nil {
			l.Release()
		}
		acquire(t, s).Release()
		_ = s.Close()
	}
}

// limit is a shared limit whose places the test has.
type limit struct {
	places    int
	asleep    bool
	contended bool
	left      []int // requests of those that left
	waiting   int
	again     time.Duration
	hook      func() // when callers begin to wait
}

func (l *limit) Enter() bool {
	if l.places <= 0 {
		return false
	}
	l.places--
	return true
}
func (l *limit) Leave(n int) {
	l.places++
	l.left = append(l.left, n)
}
func (l *limit) Adopt(n int)     { l.places -= n }
func (l *limit) Free() int       { return l.places }
func (l *limit) Asleep() bool    { return l.asleep }
func (l *limit) Calm()           { l.waiting = 0 }
func (l *limit) Contended() bool { return l.contended }
func (l *limit) Spare() bool     { return true }

func (l *limit) Patience() time.Duration   { return time.Hour }
func (l *limit) Stalled()                  {}
func (l *limit) Exchanged(Exchange)        {}
func (l *limit) Depth() (int, uint32)      { return 1, 0 }
func (l *limit) Troubled(depth.Why, error) {}

func (l *limit) Await(n int) (int, time.Duration) {
	l.waiting = n
	if l.hook != nil {
		l.hook()
	}
	return 1, l.again
}

// share has a pool whose pods have these limits.
func share(pods map[netip.AddrPort]*limit) *Standalone {
	s := New(nil)
	fn := &config.Function{Name: "f", Concurrency: 1}
	for a := range pods {
		fn.Pods = append(fn.Pods, a)
	}
	s.ReloadShared([]*config.Function{fn}, func(_ string, a netip.AddrPort) Place { return Place{Shared: pods[a]} })
	return s
}

// TestSharedLimit: places of a shared limit are waited for. One that becomes free before the
// others know that somebody waits is found, one that becomes free afterwards when they say
// so, and one that nobody can speak for when it is time.
func TestSharedLimit(t *testing.T) {
	for name, c := range map[string]struct {
		hook  func(l *limit)
		again time.Duration
		then  func(s *Standalone) // once there is a place
	}{
		"before they know": {hook: func(l *limit) { l.places = 1 }},
		"they say so":      {then: func(s *Standalone) { s.Wake("f") }},
		"when it is time":  {again: time.Second, then: func(*Standalone) { bubble.Pass(t, 2*time.Second) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &limit{again: c.again}
				if c.hook != nil {
					l.hook = func() { c.hook(l) }
				}
				s := share(map[netip.AddrPort]*limit{podA: l})
				got := make(chan Lease, 1)
				go func() {
					l, err := s.Acquire(context.Background(), "f", "c", nil)
					if err != nil {
						t.Error(err)
					}
					got <- l
				}()
				synctest.Wait()
				if c.then != nil {
					s.mu.Lock() // which guards the limit, too
					if l.waiting != 1 {
						t.Errorf("the others know of %d that wait", l.waiting)
					}
					l.places = 1
					s.mu.Unlock()
					c.then(s)
				}
				synctest.Wait()
				if len(got) == 0 {
					t.Fatal("it still waits")
				}
				(<-got).Release()
				s.mu.Lock()
				defer s.mu.Unlock()
				if l.waiting != 0 {
					t.Error("the others believe that somebody waits")
				}
				if l.places != 1 {
					t.Errorf("%d places in the end", l.places)
				}
			})
		})
	}
}

// TestLimitChangesHands: what is under way counts against the limit that its pod has got, and
// against no other.
func TestLimitChangesHands(t *testing.T) {
	s := New(functions(2, podA))
	defer s.Close()
	a, b := acquire(t, s), acquire(t, s)
	l, next := &limit{places: 3}, &limit{places: 3}
	with := func(l Shared) {
		s.ReloadShared(functions(2, podA), func(string, netip.AddrPort) Place { return Place{Shared: l} })
	}
	with(l)
	if l.places != 1 {
		t.Errorf("%d places left of 3, with two requests under way", l.places)
	}
	with(l) // the same again
	a.Release()
	with(next)
	b.Release()
	if l.places != 2 || next.places != 3 {
		t.Errorf("places: %d of the old limit, %d of the new one", l.places, next.places)
	}
	with(nil)
	acquire(t, s).Release()
	s.Reload(nil)
	if next.places != 3 {
		t.Error("a limit is used that the pod has no more")
	}
}
