package trace

import (
	"context"
	"errors"
	"math"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"eproxy/test/lib/bubble"
)

// fake are programs that show what the test says.
type fake struct {
	show    func(Event)
	lost    uint64
	err     error
	stopped bool
}

func (f *fake) Watch(_ Filter, show func(Event)) (func() uint64, func(), error) {
	f.show = show
	return func() uint64 { return f.lost }, func() { f.stopped = true }, f.err
}

var all = Filter{Sample: 1}

// looking is somebody who looks until stop is called; what is shown comes by the channel.
func looking(t *testing.T, h *Hub, f Filter) (shown <-chan Event, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	events, begun, done := make(chan Event, 4*backlog), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- h.Watch(ctx, f, func() error { close(begun); return nil }, func(e Event) error { events <- e; return nil })
	}()
	select {
	case <-begun:
	case err := <-done:
		t.Fatal(err)
	}
	return events, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestFilter: each part of a filter by itself lets pass what it is about, and nothing else.
func TestFilter(t *testing.T) {
	e := Event{Client: "c", Topic: "a/b", Function: "f", Reason: "taken_over", Outcome: "failed", Status: 503}
	for name, c := range map[string]struct {
		f    Filter
		want bool
	}{
		"all":            {Filter{}, true},
		"client":         {Filter{Client: "c"}, true},
		"other client":   {Filter{Client: "cc"}, false},
		"topic":          {Filter{Topic: "a/+"}, true},
		"other topic":    {Filter{Topic: "+"}, false},
		"function":       {Filter{Function: "f"}, true},
		"other function": {Filter{Function: "g"}, false},
		"reason":         {Filter{Reason: "taken_over"}, true},
		"outcome":        {Filter{Reason: "failed"}, true},
		"other reason":   {Filter{Reason: "lost"}, false},
		"status":         {Filter{Status: 503}, true},
		"other status":   {Filter{Status: 500}, false},
	} {
		c.f.Sample = 1
		h := NewHub(nil)
		shown, stop := looking(t, h, c.f)
		h.Ended(e)
		stop()
		if got := len(shown) == 1; got != c.want {
			t.Errorf("%s: shown %v, want %v", name, got, c.want)
		}
	}
}

// TestLeftByFunction: what the programs leave gets the route and functions that its topic has, and is judged by them; one whose
// topic is not known, or cut, has none.
func TestLeftByFunction(t *testing.T) {
	p := &fake{}
	h := NewHub(p)
	h.Routed = func(topic string) (string, []string) {
		if topic == "a" {
			return "+", []string{"f", "g"}
		}
		return "", nil
	}
	for _, c := range []struct {
		function, topic string
		cut             bool
		want            string // functions; "-": not shown
	}{
		{"", "a", false, "f,g"}, {"", "b", false, ""}, {"", "a", true, ""}, {"g", "a", false, "f,g"}, {"x", "a", false, "-"}, {"f", "a", true, "-"}, {"f", "", false, "-"},
	} {
		shown, stop := looking(t, h, Filter{Function: c.function, Sample: 1})
		p.show(Event{Path: Left, Topic: c.topic, TopicCut: c.cut})
		h.Ended(Event{Path: Refused, Function: c.function}) // which is shown, behind it
		got := "-"
		for e := range shown {
			if e.Path == Refused {
				break
			}
			got = e.Function
		}
		stop()
		if got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

// TestOneLooks: at a time; and nobody is looked for afterwards.
func TestOneLooks(t *testing.T) {
	p := &fake{}
	h := NewHub(p)
	var none *Hub
	if none.On() || h.On() {
		t.Error("somebody looks")
	}
	none.Ended(Event{})
	h.Ended(Event{})
	_, stop := looking(t, h, all)
	if !h.On() {
		t.Error("nobody looks")
	}
	if err := h.Watch(t.Context(), all, nil, nil); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	if p.stopped {
		t.Error("who was refused has stopped the one before")
	}
	stop()
	if h.On() || !p.stopped {
		t.Error("the programs go on")
	}
	p.err = errors.New("no")
	if err := h.Watch(t.Context(), all, nil, nil); !errors.Is(err, p.err) || h.On() {
		t.Error(err)
	}
}

// TestWhatDoesNotFit: nobody waits for who looks; what could not be shown is counted, also what the programs say of themselves.
func TestWhatDoesNotFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fake{}
		h := NewHub(p)
		ctx, cancel := context.WithCancel(t.Context())
		reading, goOn := make(chan struct{}), make(chan struct{})
		var lost uint64
		shown := 0
		done := make(chan error, 1)
		go func() {
			done <- h.Watch(ctx, all, func() error { return nil }, func(e Event) error {
				if e.Path == Lost {
					lost += e.Lost
					return nil
				}
				if shown++; shown == 1 {
					close(reading)
					<-goOn
				}
				return nil
			})
		}()
		synctest.Wait()
		h.Ended(Event{})
		<-reading // one is being shown, so many more wait
		for range backlog + 5 {
			p.show(Event{})
		}
		p.lost = 7
		close(goOn)
		bubble.Pass(t, 3*lostInterval) // of the test's own clock
		cancel()
		if err := <-done; err != nil || shown != backlog+1 || lost != 5+7 {
			t.Errorf("%v: %d shown, %d lost, want %d, %d", err, shown, lost, backlog+1, 12)
		}
	})
}

// TestFilterAsQuery: a filter survives its way through a URL; what is wrong with one is said in a line.
func TestFilterAsQuery(t *testing.T) {
	f := Filter{Client: "a=b&c", Topic: "x/+/#", Function: "f", Reason: "qos2", Status: 404, Sample: 0.001}
	got, err := ParseValues(f.Values())
	if err != nil || got != f {
		t.Errorf("%+v, %v, want %+v", got, err, f)
	}
	for _, c := range []struct {
		change func(v url.Values)
		want   string
	}{
		{func(v url.Values) { v.Set("status", "x") }, `status "x": must be a number`},
		{func(v url.Values) { v.Set("status", "99") }, "status 99: must be 100 to 599"},
		{func(v url.Values) { v.Set("sample", "") }, `sample "": must be a number`},
		{func(v url.Values) { v.Set("sample", "NaN") }, "sample NaN: must be above 0"},
		{func(v url.Values) { v.Set("sample", "1.5") }, "sample 1.5: must be above 0"},
		{func(v url.Values) { v.Set("topic", "a/b+") }, `topic "a/b+": `},
		{func(v url.Values) { v.Set("topic", strings.Repeat("a", 129)) }, "longer than 128 bytes"},
	} {
		v := f.Values()
		c.change(v)
		if _, err := ParseValues(v); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %s", v, err, c.want)
		}
	}
}

// TestSampled: about as many as are asked for.
func TestSampled(t *testing.T) {
	f := Filter{Sample: 0.25}
	const n = 10_000
	seen := 0
	for range n {
		if f.sampled() {
			seen++
		}
	}
	if math.Abs(float64(seen)-n/4) > 9*math.Sqrt(n*0.25*0.75) {
		t.Errorf("%d of %d", seen, n)
	}
}
