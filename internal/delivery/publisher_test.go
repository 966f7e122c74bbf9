package delivery

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/pool"
	"eproxy/internal/request"
	"eproxy/test/lib/bubble"
)

// crowd is an engine with functions of which some never get a connection.
type crowd struct {
	t      *testing.T
	e      *Engine
	pools  pools
	cfg    *config.Config
	routes map[string]*config.Route
	gone   chan struct{}
	mu     sync.Mutex
	ended  []string // topics and outcomes
}

func newCrowd(t *testing.T, functions map[string]exchange) *crowd {
	c := &crowd{t: t, cfg: &config.Config{}, routes: make(map[string]*config.Route), gone: make(chan struct{})}
	p := make(pools)
	for name, step := range functions {
		b := newBench(t, 3, step)
		b.fn.Name, b.fn.DeadLetter, b.fn.Deadline = name, nil, time.Hour
		c.cfg.Functions = append(c.cfg.Functions, b.fn)
		c.routes[name] = &config.Route{Functions: []string{name}}
		p[name] = b.pool
	}
	c.pools, c.e = p, New(c.cfg, p, Options{})
	return c
}

// client is a publisher with 2 places and 10 s patience.
func (c *crowd) client() *Publisher { return c.e.NewPublisher(2, 10*time.Second, c.gone) }

// publish is a client's PUBLISH; it returns when its connection is read again.
func (c *crowd) publish(ctx context.Context, p *Publisher, function, topic string, size int) {
	d := p.Begin(ctx, c.routes[function], &request.Message{Topic: topic, QoS: 1, Payload: make([]byte, size)}, nil)
	go func() {
		defer d.Release()
		o := d.Run()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ended = append(c.ended, topic+" "+o.Name())
	}()
}

func (c *crowd) want(ended ...string) {
	c.t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.Sort(c.ended)
	if !slices.Equal(c.ended, ended) {
		c.t.Errorf("ended: %q, want %q", c.ended, ended)
	}
	c.ended = nil
}

// after says how long f took.
func (c *crowd) after(want time.Duration, f func()) {
	c.t.Helper()
	began := time.Now()
	f()
	if took := time.Since(began); took != want {
		c.t.Errorf("the client was not read for %s, want %s", took, want)
	}
}

// in runs a test with a crowd whose messages end with it.
func in(t *testing.T, functions map[string]exchange, f func(ctx context.Context, c *crowd)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f(ctx, newCrowd(t, functions))
		cancel()
		synctest.Wait()
	})
}

// TestOldestGivesWay: a client's messages wait, up to its places; it is not read while one more comes, but
// only for so long. Then the oldest gives way, and all that is behind gets through at once.
func TestOldestGivesWay(t *testing.T) {
	in(t, map[string]exchange{"down": nil, "up": answers(200)}, func(ctx context.Context, c *crowd) {
		p := c.client()
		c.after(0, func() {
			c.publish(ctx, p, "down", "1", 0)
			c.publish(ctx, p, "down", "2", 0)
			c.publish(ctx, p, "up", "other", 0) // another function's
		})
		c.want("other delivered")
		if p.Behind() {
			t.Error("it waited already")
		}
		c.after(10*time.Second, func() { c.publish(ctx, p, "down", "3", 0) })
		c.want("1 overload")
		c.after(0, func() {
			c.publish(ctx, p, "down", "4", 0)
			c.publish(ctx, p, "up", "other", 0)
			c.publish(ctx, p, "down", "5", 0)
		})
		c.want("2 overload", "3 overload", "other delivered")
		if !p.Behind() {
			t.Error("it did not wait")
		}
		p.CaughtUp()
		c.after(10*time.Second, func() { c.publish(ctx, p, "down", "6", 0) })
		c.want("4 overload")
	})
}

// TestPatienceIsTheClients: a client is left unread for its patience, not for as long again for each function that
// is down, whether one message is for all of them or each for another. A function that answers is waited for all the same.
func TestPatienceIsTheClients(t *testing.T) {
	functions := func() map[string]exchange {
		return map[string]exchange{"a": nil, "b": nil, "c": nil, "up": answers(200)}
	}
	fill := func(ctx context.Context, c *crowd, p *Publisher) {
		for _, f := range []string{"a", "b", "c"} {
			c.publish(ctx, p, f, f+"1", 0)
			c.publish(ctx, p, f, f+"2", 0)
		}
	}
	t.Run("in turn", func(t *testing.T) {
		in(t, functions(), func(ctx context.Context, c *crowd) {
			p := c.client()
			fill(ctx, c, p)
			c.after(10*time.Second, func() {
				c.publish(ctx, p, "a", "a3", 0)
				c.publish(ctx, p, "up", "up", 0)
				c.publish(ctx, p, "b", "b3", 0)
				c.publish(ctx, p, "c", "c3", 0)
			})
			c.want("a1 overload", "b1 overload", "c1 overload", "up delivered")
			p.CaughtUp()
			c.after(10*time.Second, func() { c.publish(ctx, p, "c", "c4", 0) })
			c.want("c2 overload")
		})
	})
	t.Run("at once", func(t *testing.T) {
		in(t, functions(), func(ctx context.Context, c *crowd) {
			p := c.client()
			fill(ctx, c, p)
			c.routes["all"] = &config.Route{Functions: []string{"c", "b", "a", "up"}}
			c.after(10*time.Second, func() { c.publish(ctx, p, "all", "all", 0) })
			c.want("a1 overload", "b1 overload", "c1 overload")
		})
	})
	t.Run("one answers", func(t *testing.T) {
		first := true
		slow := func(context.Context, []byte) (*pool.Response, error) {
			takes := 4 * time.Second
			if first { // or the patience since this answer would end at the instant of the next one
				first, takes = false, 5*time.Second
			}
			bubble.Take(t, takes)
			return &pool.Response{Status: 200}, nil
		}
		in(t, map[string]exchange{"down": nil, "slow": slow}, func(ctx context.Context, c *crowd) {
			p := c.client()
			c.publish(ctx, p, "down", "d1", 0)
			c.publish(ctx, p, "down", "d2", 0)
			c.publish(ctx, p, "slow", "s1", 0)
			c.after(10*time.Second, func() { c.publish(ctx, p, "down", "d3", 0) })
			c.want("d1 overload", "s1 delivered")
			c.after(4*time.Second, func() {
				c.publish(ctx, p, "slow", "s2", 0)
				c.publish(ctx, p, "slow", "s3", 0)
				c.publish(ctx, p, "slow", "s4", 0)
			})
			c.after(0, func() { c.publish(ctx, p, "down", "d4", 0) })
			c.want("d2 overload", "s2 delivered", "s3 delivered")
			bubble.Pass(t, 4*time.Second)
			c.want("s4 delivered")
		})
	})
}

// TestSlowFunctionHoldsItsClientBack: as long as a function answers, messages wait for their turn, and those
// under way are never given up.
func TestSlowFunctionHoldsItsClientBack(t *testing.T) {
	slow := func(context.Context, []byte) (*pool.Response, error) {
		bubble.Take(t, 9*time.Second)
		return &pool.Response{Status: 200}, nil
	}
	in(t, map[string]exchange{"slow": slow}, func(ctx context.Context, c *crowd) {
		p := c.client()
		for i := range 10 {
			c.publish(ctx, p, "slow", fmt.Sprint(i), 0)
		}
		bubble.Pass(t, time.Minute)
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, e := range c.ended {
			if e[2:] != "delivered" {
				t.Error(e)
			}
		}
		if len(c.ended) != 10 {
			t.Errorf("%d messages ended", len(c.ended))
		}
	})
}

// TestNoneWaitsButTheLast: with attempts of all others under way, the message that has no place gives way.
func TestNoneWaitsButTheLast(t *testing.T) {
	in(t, map[string]exchange{"hangs": hangs}, func(ctx context.Context, c *crowd) {
		p := c.client()
		for i := range 3 {
			c.publish(ctx, p, "hangs", fmt.Sprint(i), 0)
		}
		c.want("2 overload")
	})
}

// TestNothingWaitsForTheGone: a message without a place waits neither beyond its client's session, its own
// deadline or expiry, nor the server's end.
func TestNothingWaitsForTheGone(t *testing.T) {
	for name, x := range map[string]struct {
		end  func(c *crowd, cancel context.CancelFunc)
		want string
	}{
		"session":  {func(c *crowd, _ context.CancelFunc) { close(c.gone) }, "interrupted"},
		"server":   {func(_ *crowd, cancel context.CancelFunc) { cancel() }, "interrupted"},
		"deadline": {func(*crowd, context.CancelFunc) {}, "deadline"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, map[string]exchange{"down": nil}, func(ctx context.Context, c *crowd) {
				ctx, cancel := context.WithCancel(ctx)
				defer cancel()
				p := c.client()
				c.publish(ctx, p, "down", "1", 0)
				c.publish(ctx, p, "down", "2", 0)
				sooner := *c.cfg.Functions[0]
				sooner.Deadline = 5 * time.Second
				c.e.Reload(&config.Config{Functions: []*config.Function{&sooner}}, c.pools)
				time.AfterFunc(3*time.Second, func() { x.end(c, cancel) })
				d := p.Begin(ctx, c.routes["down"], &request.Message{Topic: "3", QoS: 1}, nil)
				defer d.Release()
				if o := d.Run(); o.Name() != x.want {
					t.Errorf("%+v, want %s", o, x.want)
				}
				if q := c.e.queues.of("down"); len(q.outside) > 0 || c.e.outside.Load() != 0 {
					t.Error("it still waits outside")
				}
			})
		})
	}
}

// TestQueueIsBounded: clients together have so much of a queue and no more, in messages and in bytes; who waits
// for room gets it in order, and after its patience at the cost of its own messages only.
func TestQueueIsBounded(t *testing.T) {
	for name, b := range map[string]bounds{
		"messages": {messages: 4, bytes: 1 << 20},
		"bytes":    {messages: 100, bytes: 400},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, map[string]exchange{"down": nil}, func(ctx context.Context, c *crowd) {
				q := c.e.queues.of("down")
				q.bounds = b // three of 100 bytes for clients
				one, two, three := c.client(), c.client(), c.client()
				c.publish(ctx, one, "down", "a1", 98)
				c.publish(ctx, one, "down", "a2", 98)
				c.publish(ctx, two, "down", "b1", 98)
				go c.publish(ctx, two, "down", "b2", 98)
				bubble.Pass(t, time.Second)
				go c.publish(ctx, three, "down", "c1", 98)
				bubble.Pass(t, 8*time.Second)
				c.want()
				if o := c.e.Deliver(ctx, c.routes["down"], &request.Message{Topic: "will", Expires: time.Now()}); !o.Expired {
					t.Errorf("%+v: no room for what cannot wait", o)
				}
				bubble.Pass(t, time.Second) // 10 s for the second client
				c.want("b1 overload")
				bubble.Pass(t, time.Second) // for the third, which has no other
				c.want("c1 overload")
				synctest.Wait()
				if q.held.messages != 3 || q.held.bytes != 300 || len(q.outside) != 0 {
					t.Errorf("held: %+v, outside: %d", q.held, len(q.outside))
				}
			})
		})
	}
}

// TestHandedOverIsBounded: what the kernel path hands over is given up where the queue is full.
func TestHandedOverIsBounded(t *testing.T) {
	in(t, map[string]exchange{"down": nil}, func(ctx context.Context, c *crowd) {
		q := c.e.queues.of("down")
		q.bounds = bounds{messages: 4, bytes: 1 << 20}
		ended := make(chan Outcome, 5)
		for range 5 {
			go func() {
				ended <- c.e.DeliverRequest(ctx, c.cfg.Functions[0], nil, &request.Message{QoS: 1}, time.Now(), nil, 1, errReset)
			}()
		}
		synctest.Wait()
		if o := <-ended; o.Name() != "overload" || o.ReasonCode != CodeQuotaExceeded || len(ended) > 0 {
			t.Errorf("%+v, and %d more ended", o, len(ended))
		}
	})
}

// TestLargerThanTheQueue: a message that is larger than all that a queue holds is delivered alone.
func TestLargerThanTheQueue(t *testing.T) {
	in(t, map[string]exchange{"up": answers(200)}, func(ctx context.Context, c *crowd) {
		c.e.queues.of("up").bounds = bounds{messages: 4, bytes: 100}
		c.after(0, func() { c.publish(ctx, c.client(), "up", "1", 1000) })
		c.want("1 delivered")
	})
}

// TestOutsideIsBounded: clients that are not read hold one message each; beyond a bound of all of
// them, no more.
func TestOutsideIsBounded(t *testing.T) {
	in(t, map[string]exchange{"down": nil}, func(ctx context.Context, c *crowd) {
		p := c.client()
		c.publish(ctx, p, "down", "1", 0)
		c.publish(ctx, p, "down", "2", 0)
		c.e.outside.Store(outsideBytes)
		c.after(0, func() { c.publish(ctx, p, "down", "3", 0) })
		c.want("1 overload")
	})
}

// TestFanOutTakesAPlaceInEach: one function that is down keeps no other from its messages, and frees no place
// that is not its own.
func TestFanOutTakesAPlaceInEach(t *testing.T) {
	in(t, map[string]exchange{"down": nil, "a": answers(200), "z": answers(200)}, func(ctx context.Context, c *crowd) {
		p := c.client()
		c.routes["all"] = &config.Route{Functions: []string{"z", "down", "a"}}
		for i := range 2 {
			c.publish(ctx, p, "all", fmt.Sprint(i), 0)
		}
		c.after(10*time.Second, func() { c.publish(ctx, p, "all", "2", 0) })
		c.want("0 overload")
		for _, f := range []string{"a", "z"} {
			if held := c.e.queues.of(f).held.messages; held != 0 || len(p.windows[f].singles) > 0 {
				t.Errorf("%s holds %d messages", f, held)
			}
		}
	})
}

// TestTurns: a message waits for its turn before it is sent, but not beyond its deadline.
func TestTurns(t *testing.T) {
	in(t, map[string]exchange{"up": answers(200)}, func(ctx context.Context, c *crowd) {
		c.cfg.Functions[0].Deadline = 5 * time.Second
		for want, turn := range map[string]chan struct{}{"delivered": make(chan struct{}), "deadline": make(chan struct{})} {
			if want == "delivered" {
				time.AfterFunc(time.Second, func() { close(turn) })
			}
			d := c.client().Begin(ctx, c.routes["up"], &request.Message{QoS: 1}, turn)
			if o := d.Run(); o.Name() != want {
				t.Errorf("%+v, want %s", o, want)
			}
			d.Release()
		}
	})
}

// TestPanicOfFanOut: a fault in what is done for one of several functions is the caller's, and takes no places with it.
func TestPanicOfFanOut(t *testing.T) {
	fault := func(context.Context, []byte) (*pool.Response, error) { panic("fault") }
	in(t, map[string]exchange{"faulty": fault, "up": answers(200)}, func(ctx context.Context, c *crowd) {
		d := c.client().Begin(ctx, &config.Route{Functions: []string{"up", "faulty"}}, &request.Message{QoS: 1}, nil)
		func() {
			defer d.Release()
			defer func() {
				if recover() != "fault" {
					t.Error("the caller does not hear of it")
				}
			}()
			d.Run()
		}()
		for _, f := range []string{"up", "faulty"} {
			if held := c.e.queues.of(f).held.messages; held != 0 {
				t.Errorf("%s holds %d messages", f, held)
			}
		}
	})
}
