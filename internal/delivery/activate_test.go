package delivery

import (
	"net/netip"
	"testing"
	"time"

	"eproxy/internal/config"
)

// TestActivation: whoever can start pods is told once that a message waits for a function
// without pods, and again after it has had some, also if the message was there before the pods went.
func TestActivation(t *testing.T) {
	told := make(chan string, 10)
	asleep := &config.Config{Functions: []*config.Function{{Name: "f"}, {Name: "other"}}}
	awake := &config.Config{Functions: []*config.Function{{Name: "f", Pods: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:80")}}, {Name: "other"}}}
	e := New(asleep, nil, Options{Activate: func(function string) { told <- function }})
	defer e.Close()
	q := e.queues.of("f")
	expect := func(when string) {
		t.Helper()
		select {
		case got := <-told:
			if got != "f" {
				t.Errorf("%s: told %s", when, got)
			}
		case <-time.After(time.Minute):
			t.Fatal("not told: ", when)
		}
	}
	q.push(1)
	expect("the first message")
	q.push(1)
	q.enter(1)
	e.Reload(asleep, nil)
	e.Reload(awake, nil)
	q.push(1)
	e.Reload(asleep, nil)
	expect("the pods went")
	q.push(1)
	for range 5 {
		q.leave(1)
	}
	e.Reload(awake, nil)
	e.Reload(asleep, nil)
	if len(told) > 0 {
		t.Errorf("told %d times more", len(told))
	}
	<-q.ask(1).granted
	expect("a message that had waited outside")
}

// TestQueueFollowsConfiguration: a reload changes a function's bounds, and who waits outside
// comes in when there is room.
func TestQueueFollowsConfiguration(t *testing.T) {
	with := func(messages int) *config.Config {
		return &config.Config{Functions: []*config.Function{{Name: "f", Queue: config.Queue{Messages: messages, Bytes: 1 << 20}}}}
	}
	e := New(with(4), nil, Options{})
	defer e.Close()
	q := e.queues.of("f")
	for q.enter(1) {
	}
	if q.held.messages != 3 { // a quarter is for those that cannot wait
		t.Errorf("%d messages are in, of 4", q.held.messages)
	}
	waits := q.ask(1)
	if waits.has() {
		t.Error("one more is in")
	}
	e.Reload(with(8), nil)
	if !waits.has() {
		t.Error("it waits outside, although there is room")
	}
}
