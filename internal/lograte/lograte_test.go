package lograte

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"eproxy/test/lib/bubble"
)

// record is a Logger whose lines, without time, can be read. For use inside a
// synctest bubble, where minutes cost nothing.
func record() (*Logger, func() []string) {
	var out bytes.Buffer
	h := slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	l := New(slog.New(h))
	lines := func() []string {
		synctest.Wait()
		l.mu.Lock() // it logs under its lock
		defer l.mu.Unlock()
		s := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		out.Reset()
		return s
	}
	return l, lines
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if len(want) == 0 {
		want = []string{""}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("logged\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestOnceThenCounted: the first occurrence at once, the others as one line per
// minute with the latest arguments; after a quiet minute the next is a first one.
func TestOnceThenCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, lines := record()
		for i := range 5 {
			l.Warn("pod refuses", "a", "pod", "a", "try", i)
		}
		l.Warn("pod refuses", "b", "pod", "b")
		expect(t, lines(), "level=WARN msg=\"pod refuses\" pod=a try=0", "level=WARN msg=\"pod refuses\" pod=b")

		bubble.Pass(t, Interval-time.Second)
		expect(t, lines())
		bubble.Pass(t, time.Second)
		expect(t, lines(), "level=WARN msg=\"pod refuses\" pod=a try=4 more_in_last_minute=4")

		l.Warn("pod refuses", "a", "try", 5)
		expect(t, lines())
		bubble.Pass(t, Interval)
		expect(t, lines(), "level=WARN msg=\"pod refuses\" try=5 more_in_last_minute=1")

		bubble.Pass(t, 2*Interval)
		expect(t, lines())
		l.Warn("pod refuses", "a", "try", 6)
		expect(t, lines(), "level=WARN msg=\"pod refuses\" try=6")
		l.Close()
	})
}

// TestNothingCountedIsLostAtClose: what was counted is not lost at the end, and nothing follows.
func TestNothingCountedIsLostAtClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, lines := record()
		l.Warn("m", "k", "n", 1)
		l.Warn("m", "k", "n", 2)
		lines()
		l.Close()
		expect(t, lines(), "level=WARN msg=m n=2 more_in_last_minute=1")
		l.Warn("m", "k")
		l.Warn("m", "other")
		bubble.Pass(t, 2*Interval)
		expect(t, lines())
	})
}

// TestInventedKeysAreBounded: whoever invents keys cannot make the log longer, nor the memory.
func TestInventedKeysAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, lines := record()
		for i := range 10 * maxKeys {
			l.Warn("m", fmt.Sprint(i))
		}
		if got := len(lines()); got != maxKeys+1 {
			t.Errorf("%d lines, want %d and one for all the others", got, maxKeys)
		}
		l.mu.Lock()
		if len(l.events) > maxKeys+1 {
			t.Errorf("%d events are kept", len(l.events))
		}
		l.mu.Unlock()
		bubble.Pass(t, Interval)
		expect(t, lines(), fmt.Sprintf("level=WARN msg=m more_in_last_minute=%d", 9*maxKeys-1))
		l.Close()
	})
}

// TestNilLoggerIsSilent: components that are given no Logger may log all the same.
func TestNilLoggerIsSilent(t *testing.T) {
	var l *Logger
	l.Warn("m", "k")
	l.Close()
}
