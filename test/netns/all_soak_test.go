package netns

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/wire"
)

// soakTime is how long TestSoak runs, unless EPROXY_SOAK says otherwise.
const soakTime = 2 * time.Minute

// moody responses as real functions do on bad days. Long silences and broken
// responses end in retries; what is acknowledged must have been answered.
func moody(rng func() float64) behaviour {
	return func(n int64, w http.ResponseWriter, q *http.Request) {
		switch x := rng(); {
		case x < 0.02:
			w.WriteHeader(503)
		case x < 0.03:
			if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal")
				_ = c.Close()
			}
		case x < 0.04:
			w.Header().Set("Connection", "close")
			ok(n, w, q)
		case x < 0.06:
			_, _ = io.WriteString(w, "o")
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, "k")
		case x < 0.063:
			select {
			case <-time.After(3 * time.Second):
			case <-q.Context().Done():
			}
			ok(n, w, q)
		case x < 0.10:
			select { // slow, as some functions are
			case <-time.After(time.Duration(x * float64(time.Second))):
			case <-q.Context().Done():
			}
			ok(n, w, q)
		default:
			ok(n, w, q)
		}
	}
}

// TestSoak runs rounds with all faults at once: links that lose, repeat,
// reorder, corrupt, cut, join, delay and go down; moody functions; kill -9; XDP
// and TC in turn. After each round the property is checked: what was
// acknowledged was delivered, whole, where it belongs; QoS 0 at most once.
func TestSoak(t *testing.T) {
	duration := soakTime
	if v := os.Getenv("EPROXY_SOAK"); v != "" {
		var err error
		if duration, err = time.ParseDuration(v); err != nil {
			t.Fatalf("EPROXY_SOAK: %v", err)
		}
	}
	seed := seedOf(t)
	end := time.Now().Add(duration)
	for _, mode := range []string{"tc", "xdp"} {
		half := end.Add(-duration / 2)
		if mode == "xdp" {
			half = end
		}
		t.Run(mode, func(t *testing.T) { soak(t, mode, seed, half) })
	}
}

func soak(t *testing.T, mode string, seed uint64, end time.Time) {
	rng := rand.New(rand.NewPCG(seed, 77))
	l := newWired(t, seed)
	r := newRecorder()
	mood := rand.New(rand.NewPCG(seed, 78))
	lock := make(chan struct{}, 1)
	r.serveGo(t, l.Lab, false, moody(func() float64 {
		lock <- struct{}{}
		defer func() { <-lock }()
		return mood.Float64()
	}), nil)
	abs, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	run := func() *lab.Process {
		p, err := l.StartEproxy(context.Background(), t.TempDir(), lab.Eproxy{Bin: abs, Mode: mode, Config: soakConfig})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := run()
	delivered, duplicates := 0, 0
	for round := 0; time.Now().Before(end) && !t.Failed(); round++ {
		for _, role := range []lab.Role{lab.Dev, lab.Pod0, lab.Pod1} {
			f := everything
			scale := rng.Float64()
			for _, v := range []*float64{&f.Drop, &f.Duplicate, &f.Corrupt, &f.Reorder, &f.Late, &f.Cut, &f.Bytes, &f.Join} {
				*v *= scale * 2 * rng.Float64()
			}
			l.set(f, role)
		}
		devices := newFleet(l.Lab, seed+uint64(round), 6, 100)
		done := make(chan struct{})
		go func() {
			defer close(done)
			fleet(t, devices, 4*time.Minute)
		}()
		switch have, _ := r.all(); round % 4 {
		case 2:
			r.wait(t, len(have)+50+rng.IntN(200))
			p.Kill()
			p = run()
		case 3:
			r.wait(t, len(have)+50+rng.IntN(200))
			l.cables[lab.Dev].SetDown(true)
			<-time.After(time.Duration(rng.IntN(3000)) * time.Millisecond) // the duration of the fault
			l.cables[lab.Dev].SetDown(false)
		}
		<-done
		l.set(wire.Faults{}, lab.Dev, lab.Pod0, lab.Pod1)
		s := &system{Process: p, t: t, lab: l.Lab, mode: mode}
		s.slotsReturn(t)
		got := r.settled()
		n, err := check(got, devices)
		if err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		delivered += len(got)
		duplicates += n
		r.forget()
	}
	t.Logf("%d messages delivered, %d of them again", delivered, duplicates)
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Logf("eproxy's log:\n%s", p.Log())
	}
}

var soakConfig = podConfig(`functions:
  - name: temp
    url: http://temp.local/ingest
    pods: ["%[1]s", "%[2]s"]
    timeout: 2s
    pipeline: 4
    retry: {attempts: 30, backoff: 20ms, max_backoff: 200ms}
  - name: hum
    url: http://hum.local/ingest
    pods: ["%[1]s", "%[2]s"]
    timeout: 2s
    retry: {attempts: 30, backoff: 20ms, max_backoff: 200ms}
routes:
  - topic: sensors/+/temp
    function: temp
  - topic: sensors/+/hum
    function: hum
`, false)
