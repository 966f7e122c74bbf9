package netns

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"eproxy/test/lib/lab"
)

// waitState waits until a pod is in a state.
func (s *system) waitState(pod lab.Role, state string) {
	s.t.Helper()
	until(s.t, fmt.Sprintf("%s to be %s", pod, state), func() bool { row := s.podRow(pod); return row != nil && row["state"] == state })
}

// serveHealth serves a function at a pod that answers /healthz with 503 until it is
// well.
func serveHealth(t *testing.T, l *lab.Lab, r *recorder, pod lab.Role, well *atomic.Bool) {
	t.Helper()
	messages := r.handler(ok)
	serveOn(t, l, pod, lab.PodAddr(pod, false).String()+":8080", http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch {
		case q.URL.Path != "/healthz":
			messages.ServeHTTP(w, q)
		case !well.Load():
			w.WriteHeader(503)
		}
	}), nil)
}

// TestPodLife: a pod gets messages when its probe succeeds, none while an operator
// drains it or its function is paused, and those that come meanwhile wait. mapsctl says
// where it is in its life, and why.
func TestPodLife(t *testing.T) {
	for _, mode := range []string{"tc", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			var well atomic.Bool
			serveHealth(t, l, r, lab.Pod0, &well)
			config := strings.Replace(onePodConfig, "    retry:", "    probe: /healthz\n    drain: []\n    paused: false\n    retry:", 1)
			pod := lab.PodAddr(lab.Pod0, false).String() + ":8080"
			s := start(t, l, mode, fmt.Sprintf(config, pod))
			shown := func(state, why string) {
				t.Helper()
				if mode == "fallback" {
					return
				}
				s.waitState(lab.Pod0, state)
				if got := s.podRow(lab.Pod0)["reason"].(string); !strings.Contains(got, why) {
					t.Errorf("the reason is %q, not %q", got, why)
				}
			}
			c := rawConnect(t, l, "early")
			n := 0
			waits := func(state, why string, end func()) {
				t.Helper()
				c.write(publishPacket("sensors/early/temp", 1, uint16(n+1), "waits"))
				c.ping()
				shown(state, why)
				if got, _ := r.all(); len(got) != n {
					t.Fatalf("the pod got %d messages while it was %s, not %d", len(got), state, n)
				}
				end()
				n++
				r.wait(t, n)
				c.acknowledged(uint16(n))
			}
			waits("discovered", "answered 503", func() { well.Store(true) })
			shown("ready", "")
			s.reload("drain: []", "drain: ["+pod+"]", "reloaded")
			waits("drained", "operator", func() { s.reload("drain: ["+pod+"]", "drain: []", "reloaded") })
			s.reload("paused: false", "paused: true", "reloaded")
			waits("paused", "function is paused", func() { s.reload("paused: true", "paused: false", "reloaded") })
		})
	}
}

// TestRefusingPodRests: a pod that takes no connections rests while there is another, and
// gets messages when it takes some.
func TestRefusingPodRests(t *testing.T) {
	l := newLab(t)
	r, late := newRecorder(), newRecorder()
	serveOn(t, l, lab.Pod0, lab.PodAddr(lab.Pod0, false).String()+":8080", r.handler(ok), nil)
	file := podFile{filepath.Join(t.TempDir(), "pods")}
	file.name(t, lab.Pod0, lab.Pod1)
	s := start(t, l, "tc", fmt.Sprintf(fileConfig, file.path, "10s"))
	s.waitState(lab.Pod1, "suspect")
	deliverSome(t, l, r, 20)
	serveOn(t, l, lab.Pod1, lab.PodAddr(lab.Pod1, false).String()+":8080", late.handler(ok), nil)
	s.waitState(lab.Pod1, "ready")
	c := rawConnect(t, l, "early")
	for id := uint16(1); ; id++ {
		c.write(publishPacket("sensors/early/temp", 1, id, "x"))
		c.acknowledged(id)
		if got, _ := late.all(); len(got) > 0 {
			break
		}
		if id == 1000 {
			t.Fatal("the pod that rested gets no messages")
		}
	}
}
