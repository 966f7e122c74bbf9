package control

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"eproxy/internal/trace"
)

// TestTrace: messages come through the socket until who looks has gone, of which the loader hears; what is refused is said.
func TestTrace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	f := &fake{left: make(chan struct{})}
	stop, err := Serve(path, Served{f, f, f, f, f, http.NotFoundHandler()})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	c := dial(path)
	ctx, cancel := context.WithCancel(t.Context())
	want := trace.Filter{Client: "a&b", Topic: "x/+/#", Status: 200, Sample: 0.5}
	begun := false
	err = c.Trace(ctx, want, func() { begun = true }, func(e trace.Event) error {
		if !begun || e.Client != want.Client || e.Topic != want.Topic || e.Status != want.Status {
			t.Errorf("%+v, begun %v", e, begun)
		}
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-f.left
	enough := errors.New("enough")
	if err := c.Trace(t.Context(), want, func() {}, func(trace.Event) error { return enough }); !errors.Is(err, enough) {
		t.Error(err)
	}
	<-f.left
	for _, wrong := range []struct {
		filter trace.Filter
		said   string
	}{
		{trace.Filter{Client: "busy", Sample: 1}, trace.ErrBusy.Error()},
		{trace.Filter{Topic: "a/#/b", Sample: 1}, `topic "a/#/b"`},
		{trace.Filter{Sample: 0}, "sample 0: must be above 0"},
	} {
		err := c.Trace(t.Context(), wrong.filter, func() { t.Error("begun") }, func(trace.Event) error { return nil })
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), wrong.said) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v", wrong.filter, err)
		}
	}
}

// TestStopWaits: who looks at messages has left when stop returns, since what they look at is given up then.
func TestStopWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	f := &fake{left: make(chan struct{}, 1), slow: time.After(100 * time.Millisecond)} // it leaves late
	stop, err := Serve(path, Served{f, f, f, f, f, http.NotFoundHandler()})
	if err != nil {
		t.Fatal(err)
	}
	shown := make(chan struct{})
	go func() {
		_ = dial(path).Trace(t.Context(), trace.Filter{Client: "c", Sample: 1}, func() {}, func(trace.Event) error { close(shown); return nil })
	}()
	<-shown
	stop()
	if len(f.left) == 0 {
		t.Error("stop has returned while somebody looked")
	}
}
