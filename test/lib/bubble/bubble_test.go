package bubble

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestPass: what is due within the time has happened, no real time has passed.
func TestPass(t *testing.T) {
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		var due atomic.Bool
		time.AfterFunc(time.Hour, func() { due.Store(true) })
		Pass(t, time.Hour-1)
		if due.Load() {
			t.Error("it happened before it was due")
		}
		Pass(t, 1)
		if !due.Load() {
			t.Error("it was due, and has not happened")
		}
	})
	if time.Since(began) > time.Hour {
		t.Error("it took real time")
	}
}

// failure notes that a test was ended.
type failure struct {
	testing.TB
	fatal bool
}

func (f *failure) Helper() {}

func (f *failure) Fatal(...any) { f.fatal = true; panic(f) }

// TestPassOutside: a test that has no clock of its own is ended rather than held up.
func TestPassOutside(t *testing.T) {
	f := &failure{TB: t}
	defer func() {
		if recover() != f || !f.fatal {
			t.Error("time may pass without a bubble")
		}
	}()
	Pass(f, time.Nanosecond)
}
