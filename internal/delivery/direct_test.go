package delivery

import (
	"context"
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

// desk is a pool whose calls the test answers; what Acquire gets is as the script says.
type desk struct {
	*script
	full  bool // calls wait for a place
	mu    sync.Mutex
	calls []*pool.Call
}

func (d *desk) Send(c *pool.Call, _ *pool.Batch) (waits bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, c)
	return d.full
}

func (d *desk) Withdraw(c *pool.Call) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.Index(d.calls, c)
	if !d.full || i < 0 {
		return false
	}
	d.calls = slices.Delete(d.calls, i, i+1)
	return true
}

// sent is how many calls are under way.
func (d *desk) sent() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.calls)
}

// end ends the oldest call.
func (d *desk) end(resp *pool.Response, err error, behind bool) {
	d.mu.Lock()
	c := d.calls[0]
	d.calls = slices.Delete(d.calls, 0, 1)
	d.mu.Unlock()
	c.Response, c.Err, c.Behind = resp, err, behind
	c.Done(c, &pool.Batch{})
}

// endings are the outcomes of deliveries.
type endings struct{ names []string }

func (e *endings) Ended(o Outcome, _ *pool.Batch) { e.names = append(e.names, o.Name()) }
func (e *endings) Go(f func())                    { go f() }
func (e *endings) Contain()                       {}

// TestDirect: a message is sent without anybody waiting for it; what its first attempt does not achieve goes on as
// that of any other, and what ends its waiting ends it.
func TestDirect(t *testing.T) {
	good, bad := &pool.Response{Status: 200, KeepAlive: true}, &pool.Response{Status: 503, KeepAlive: true}
	for _, c := range []struct {
		name  string
		qos   byte
		full  bool
		steps exchange // further attempts
		do    func(d *desk, p *Publisher, cancel context.CancelFunc)
		made  int // further attempts
		want  string
	}{
		{"success", 1, false, nil, func(d *desk, _ *Publisher, _ context.CancelFunc) { d.end(good, nil, false) }, 0, "delivered"},
		{"success at last", 1, false, answers(200), func(d *desk, _ *Publisher, _ context.CancelFunc) { d.end(bad, nil, false) }, 1, "delivered"},
		{"no success", 1, false, answers(503), func(d *desk, _ *Publisher, _ context.CancelFunc) { d.end(bad, nil, false) }, 2, "dead_letter"},
		{"not its fault", 1, false, answers(503), func(d *desk, _ *Publisher, _ context.CancelFunc) { d.end(nil, errReset, true) }, 3, "dead_letter"},
		{"at most once", 0, false, answers(200), func(d *desk, _ *Publisher, _ context.CancelFunc) { d.end(nil, errReset, true) }, 0, "lost"},
		{"unread", 0, false, answers(200), func(d *desk, _ *Publisher, _ context.CancelFunc) { d.end(nil, pool.ErrUnread, false) }, 1, "delivered"},
		{"deadline", 1, true, nil, func(*desk, *Publisher, context.CancelFunc) { bubble.Pass(t, 2*time.Hour) }, 0, "dead_letter"},
		{"deadline passes under way", 1, false, nil, func(d *desk, _ *Publisher, _ context.CancelFunc) {
			bubble.Pass(t, 2*time.Hour)
			d.end(bad, nil, false)
		}, 0, "dead_letter"},
		{"gives way", 1, true, nil, func(_ *desk, p *Publisher, _ context.CancelFunc) {
			if p.giveWay(p.windows["f"], nil) == nil {
				t.Error("it does not give way")
			}
		}, 0, "dead_letter"},
		{"does not give way", 1, false, nil, func(d *desk, p *Publisher, _ context.CancelFunc) {
			if p.giveWay(p.windows["f"], nil) != nil {
				t.Error("it gives way under way")
			}
			d.end(good, nil, false)
		}, 0, "delivered"},
		{"server ends", 1, false, nil, func(d *desk, _ *Publisher, cancel context.CancelFunc) {
			cancel()
			d.end(nil, errReset, false)
		}, 0, "interrupted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, 3, c.steps)
				d := &desk{script: b.pool, full: c.full}
				b.e = New(&config.Config{Functions: []*config.Function{b.fn}}, d, Options{})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				p := b.e.NewPublisher(2, time.Second, nil)
				var ended endings
				dl := p.Begin(ctx, b.route, &request.Message{Topic: "x", QoS: c.qos}, nil)
				if !dl.Start(p.Batch(), &ended) || d.sent() != 1 {
					t.Fatal("it is not sent")
				}
				c.do(d, p, cancel)
				bubble.Pass(t, time.Hour) // of no message
				if got := ended.names; len(got) != 1 || got[0] != c.want {
					t.Errorf("ended %q, want %q", got, c.want)
				}
				if n := int(d.made.Load()); n != c.made {
					t.Errorf("%d further attempts, want %d", n, c.made)
				}
				dl.Release()
				if q := b.e.queues.of("f"); q.held.messages != 0 || len(p.windows["f"].singles) != 0 {
					t.Errorf("%d messages in the queue, %d in the window in the end", q.held.messages, len(p.windows["f"].singles))
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}

// TestNotDirect: what has to be waited for is not sent so.
func TestNotDirect(t *testing.T) {
	b := newBench(t, 1, answers(200))
	d := &desk{script: b.pool}
	b.e = New(&config.Config{Functions: []*config.Function{b.fn}}, d, Options{})
	p := b.e.NewPublisher(10, time.Second, nil)
	for name, c := range map[string]struct {
		m    request.Message
		turn chan struct{}
	}{
		"QoS 2":          {m: request.Message{QoS: 2}},
		"response topic": {m: request.Message{QoS: 1, ResponseTopic: "x"}},
		"expiry":         {m: request.Message{QoS: 1, Expires: time.Now().Add(time.Hour)}},
		"turn":           {m: request.Message{QoS: 1}, turn: make(chan struct{})},
	} {
		dl := p.Begin(t.Context(), b.route, &c.m, c.turn)
		if dl.Start(p.Batch(), &endings{}) || d.sent() > 0 {
			t.Errorf("%s: it is sent", name)
		}
		dl.Release()
	}
}

// TestAllocations: what a message costs in allocations between its client and its pod.
func TestAllocations(t *testing.T) {
	b := newBench(t, 1, nil)
	d := &desk{script: b.pool}
	b.e = New(&config.Config{Functions: []*config.Function{b.fn}}, d, Options{})
	p := b.e.NewPublisher(10, time.Second, nil)
	m := &request.Message{Topic: "x", QoS: 1, Payload: make([]byte, 64)}
	resp := &pool.Response{Status: 200, KeepAlive: true}
	var ended endings
	ended.names = make([]string, 0, 1000)
	if n := testing.AllocsPerRun(200, func() {
		ended.names = ended.names[:0]
		dl := p.Begin(context.Background(), b.route, m, nil)
		dl.Start(p.Batch(), &ended)
		d.end(resp, nil, false)
		dl.Release()
	}); n > 9 {
		t.Errorf("%v allocations", n)
	}
	if len(ended.names) != 1 {
		t.Error(ended.names)
	}
}
