package top

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

const first = `
eproxy_messages_total{function="f",outcome="delivered",path="kernel",qos="1",route="a/#"} 100
eproxy_messages_total{function="f",outcome="delivered",path="fallback",qos="1",route="a/#"} 50
eproxy_messages_total{function="f",outcome="failed",path="fallback",qos="1",route="a/#"} 5
eproxy_messages_total{function="g",outcome="delivered",path="kernel",qos="1",route="b"} 7
# TYPE eproxy_message_duration_seconds histogram
eproxy_message_duration_seconds_bucket{route="a/#",path="kernel",le="0.001"} 90
eproxy_message_duration_seconds_bucket{route="a/#",path="kernel",le="0.002"} 100
eproxy_message_duration_seconds_bucket{route="a/#",path="kernel",le="+Inf"} 100
eproxy_message_duration_seconds_sum{route="a/#",path="kernel"} 1
eproxy_message_duration_seconds_count{route="a/#",path="kernel"} 100
# TYPE eproxy_function_requests_total counter
eproxy_function_requests_total{function="f",pod="10.0.0.1:80",code="200"} 150
eproxy_function_requests_total{function="f",pod="10.0.0.1:80",code="0"} 9
# TYPE eproxy_program_runs_total counter
eproxy_program_runs_total{program="xdp_device"} 10
# TYPE eproxy_program_seconds_total counter
eproxy_program_seconds_total{program="xdp_device"} 1
`

const second = `
eproxy_messages_total{function="f",outcome="delivered",path="kernel",qos="1",route="a/#"} 130
eproxy_messages_total{function="f",outcome="delivered",path="fallback",qos="1",route="a/#"} 56
eproxy_messages_total{function="f",outcome="failed",path="fallback",qos="1",route="a/#"} 9
eproxy_messages_total{function="g",outcome="delivered",path="kernel",qos="1",route="b"} 2
# TYPE eproxy_message_duration_seconds histogram
eproxy_message_duration_seconds_bucket{route="a/#",path="kernel",le="0.001"} 100
eproxy_message_duration_seconds_bucket{route="a/#",path="kernel",le="0.002"} 130
eproxy_message_duration_seconds_bucket{route="a/#",path="kernel",le="+Inf"} 130
eproxy_message_duration_seconds_sum{route="a/#",path="kernel"} 2
eproxy_message_duration_seconds_count{route="a/#",path="kernel"} 130
# TYPE eproxy_function_requests_total counter
eproxy_function_requests_total{function="f",pod="10.0.0.1:80",code="200"} 180
eproxy_function_requests_total{function="f",pod="10.0.0.1:80",code="0"} 13
# TYPE eproxy_function_inflight gauge
eproxy_function_inflight{function="f",pod="10.0.0.1:80"} 3
eproxy_function_inflight{function="f",pod="10.0.0.2:80"} 4
# TYPE eproxy_function_queue_messages gauge
eproxy_function_queue_messages{function="f",path="kernel"} 5
eproxy_function_queue_messages{function="f",path="fallback"} 1
# TYPE eproxy_program_runs_total counter
eproxy_program_runs_total{program="xdp_device"} 210
# TYPE eproxy_program_seconds_total counter
eproxy_program_seconds_total{program="xdp_device"} 1.02
`

// snapshot is a reading; untyped metrics are counters where the loader says so.
func snapshot(t *testing.T, text string, at time.Duration) *Snapshot {
	t.Helper()
	s, err := Read(strings.NewReader("# TYPE eproxy_messages_total counter"+text), time.Unix(0, 0).Add(at))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// say is a row in one line.
func say(r Row) string {
	return fmt.Sprintf("%s %s %s rate %.4g inflight %.4g waiting %.4g p50 %.5g p99 %.5g share %.4g errors %.4g cpu %.4g",
		r.Kind, r.Name, r.Pod, r.Rate, r.InFlight, r.Waiting, r.P50, r.P99, r.Share, r.Errors, r.CPU)
}

// TestBetween: what happened in two seconds, also of a counter that began anew (g).
func TestBetween(t *testing.T) {
	var got []string
	for _, r := range Between(snapshot(t, first, 0), snapshot(t, second, 2*time.Second)) {
		got = append(got, say(r))
	}
	want := []string{
		"function f  rate 20 inflight 7 waiting 6 p50 1250 p99 1985 share 75 errors 2 cpu NaN",
		"pod f 10.0.0.1:80 rate 17 inflight 3 waiting NaN p50 NaN p99 NaN share NaN errors 2 cpu NaN",
		"pod f 10.0.0.2:80 rate 0 inflight 4 waiting NaN p50 NaN p99 NaN share NaN errors NaN cpu NaN",
		"function g  rate 1 inflight NaN waiting NaN p50 NaN p99 NaN share 100 errors 0 cpu NaN",
		"program xdp_device  rate 100 inflight NaN waiting NaN p50 NaN p99 NaN share NaN errors NaN cpu 1",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestQuantile: the last bucket has no upper bound; where nothing was counted nothing is known.
func TestQuantile(t *testing.T) {
	inf := math.Inf(1)
	for _, c := range []struct {
		b    buckets
		want float64
	}{{buckets{1: 0, 2: 10, inf: 10}, 1.5}, {buckets{1: 0, 2: 1, inf: 10}, 2}, {buckets{1: 0, inf: 0}, math.NaN()}, {nil, math.NaN()}} {
		if got := c.b.quantile(0.5); got != c.want && !(math.IsNaN(got) && math.IsNaN(c.want)) {
			t.Errorf("%v: %v, want %v", c.b, got, c.want)
		}
	}
}

// keys are pressed one after another; a key of several letters is a special one.
func press(t *testing.T, s *Screen, keys ...string) (quit bool) {
	t.Helper()
	special := map[string]tea.KeyType{"enter": tea.KeyEnter, "esc": tea.KeyEsc, "backspace": tea.KeyBackspace, "down": tea.KeyDown, "up": tea.KeyUp, "ctrl+c": tea.KeyCtrlC}
	for _, k := range keys {
		m := tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(k)}
		if kind, ok := special[k]; ok {
			m = tea.KeyMsg{Type: kind}
		}
		if _, cmd := s.Update(m); cmd != nil {
			_, quit = cmd().(tea.QuitMsg)
		}
	}
	return quit
}

// screen has two readings.
func screen(t *testing.T) *Screen {
	t.Helper()
	s := NewScreen(t.Context(), time.Second, func(context.Context) (*Snapshot, error) { return snapshot(t, first, 0), nil })
	s.Update(s.Init()())
	s.Update(taken{snapshot(t, second, 2*time.Second), nil})
	s.Update(tea.WindowSizeMsg{Width: 200, Height: 20})
	return s
}

// TestScreenFits: no line is longer, and there are no more of them, than the terminal has room for, whatever its size; the rows
// that do not fit are reached by scrolling.
func TestScreenFits(t *testing.T) {
	s := screen(t)
	for w := 0; w < 150; w += 7 {
		for h := range 12 {
			s.Update(tea.WindowSizeMsg{Width: w, Height: h})
			lines := strings.Split(s.View(), "\n")
			if len(lines) > max(h, 1) {
				t.Fatalf("%d lines in %d", len(lines), h)
			}
			for _, l := range lines {
				if n := len([]rune(l)); n > w {
					t.Fatalf("a line of %d in %d: %q", n, w, l)
				}
			}
		}
	}
	s.Update(tea.WindowSizeMsg{Width: 200, Height: 5}) // two rows
	if v := s.View(); !strings.Contains(v, "function  f") || strings.Contains(v, "xdp_device") {
		t.Error(v)
	}
	press(t, s, "down", "down", "down", "down", "down", "down")
	if v := s.View(); strings.Contains(v, "function  f") || !strings.Contains(v, "xdp_device") {
		t.Error(v)
	}
}

// TestScreenKeys: sorting, filtering, pausing and the ways to end.
func TestScreenKeys(t *testing.T) {
	s := screen(t)
	names := func() string {
		var out []string
		for _, r := range s.shown() {
			out = append(out, strings.TrimSpace(r.Name+" "+r.Pod))
		}
		return strings.Join(out, ",")
	}
	const unsorted = "f,f 10.0.0.1:80,f 10.0.0.2:80,g,xdp_device"
	if got := names(); got != unsorted {
		t.Error(got)
	}
	press(t, s, "s", "s", "s", "s") // by rate
	if got := names(); got != "xdp_device,f,f 10.0.0.1:80,g,f 10.0.0.2:80" || !strings.Contains(s.View(), "sorted by RATE/S") {
		t.Error(got)
	}
	for range len(columns) - 3 {
		press(t, s, "s")
	}
	if got := names(); got != unsorted {
		t.Errorf("after all columns: %s", got)
	}
	press(t, s, "/", "q", "backspace", "p", "o", "d", "enter")
	if got := names(); got != "f 10.0.0.1:80,f 10.0.0.2:80" {
		t.Error(got)
	}
	press(t, s, "/", "x", "esc")
	if got := names(); got != unsorted {
		t.Error(got)
	}
	press(t, s, "p")
	s.Update(taken{snapshot(t, first, 4*time.Second), nil})
	if v := s.View(); !strings.HasPrefix(v, "paused") || names() != unsorted || s.rows[0].Rate != 20 {
		t.Errorf("while it is paused: %s", v)
	}
	press(t, s, "p")
	s.Update(taken{nil, errors.New("no loader\nmore")})
	if v := s.View(); !strings.HasPrefix(v, "cannot read: no loader\n") || s.rows[0].Rate != 20 {
		t.Errorf("while it cannot be read: %s", v)
	}
	for _, k := range []string{"q", "esc", "ctrl+c"} {
		if !press(t, s, k) {
			t.Errorf("%s does not end it", k)
		}
	}
}
