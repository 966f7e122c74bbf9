package netns

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"eproxy/test/lib/lab"
)

const onePodConfig = `functions:
  - name: temp
    url: http://temp.local/ingest
    pods: ["%s"]
    retry: {attempts: 9, backoff: 20ms}
routes:
  - {topic: sensors/+/temp, function: temp}
`

// few is a server that reads so many connections at a time, whether anything comes on
// them or not; others wait until one of those ends.
type few struct {
	n     int
	close bool // each connection after its first response
}

// serve runs it on a pod until the test ends.
func (f few) serve(t *testing.T, l *lab.Lab, r *recorder, pod lab.Role) string {
	t.Helper()
	addr := net.JoinHostPort(lab.PodAddr(pod, false).String(), "8080")
	ln, err := l.Listen(pod, addr)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	var mu sync.Mutex
	ended := false
	open := map[net.Conn]bool{}
	for range f.n {
		serving.Go(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				mu.Lock()
				open[c] = !ended
				if ended {
					_ = c.Close()
				}
				mu.Unlock()
				f.talk(c, r)
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			}
		})
	}
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		ended = true
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		serving.Wait()
	})
	return addr
}

// talk answers requests on one connection.
func (f few) talk(c net.Conn, r *recorder) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		q, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(q.Body)
		if err != nil {
			return
		}
		r.add(request{body: string(body)})
		ending := ""
		if f.close {
			ending = "Connection: close\r\n"
		}
		if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"+ending+"\r\n"); err != nil || f.close {
			return
		}
	}
}

// TestServerThatReadsFew: a server that accepts many connections and reads one or a few of them
// gets each message once, of both paths together, and each is acknowledged.
func TestServerThatReadsFew(t *testing.T) {
	for _, mode := range []string{"xdp", "tc", "fallback"} {
		for _, f := range []few{{1, false}, {1, true}, {3, false}} {
			t.Run(fmt.Sprintf("%s/%d,close=%t", mode, f.n, f.close), func(t *testing.T) {
				l := newLab(t)
				r := newRecorder()
				s := start(t, l, mode, fmt.Sprintf(onePodConfig, f.serve(t, l, r, lab.Pod0)))
				var want []string
				for round := range 3 {
					var clients sync.WaitGroup
					for i := range 4 {
						id := fmt.Sprintf("few-%d-%d", round, i)
						var ms []message
						for n := range 15 {
							size := 20
							if n%5 == 4 {
								size = 3000 // too long for the kernel path
							}
							ms = append(ms, message{topic: "sensors/" + id + "/temp", qos: 1, payload: sealed(id, "temp", n, size)})
							want = append(want, ms[n].payload)
						}
						c := rawConnect(t, l, id)
						_ = c.SetDeadline(time.Now().Add(stallLimit))
						clients.Go(func() { c.publishAll(ms, 5) })
					}
					clients.Wait()
				}
				r.once(t, want)
				if taken, _ := share(nil, s.counts()); mode != "fallback" && taken == 0 {
					t.Error("the kernel took nothing: the test tests nothing")
				}
			})
		}
	}
}

// TestSilentConnections: a pod has one connection at first, that no message comes to; it is
// given up while nothing is known of its server. What a burst needs is gone when
// the burst is over: but for one where the server keeps connections, that serves the
// next message in the kernel, and all where it does not.
func TestSilentConnections(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		for _, f := range []few{{1000, false}, {1000, true}} {
			t.Run(fmt.Sprintf("%s/close=%t", mode, f.close), func(t *testing.T) {
				l := newLab(t)
				r := newRecorder()
				addr := f.serve(t, l, r, lab.Pod0)
				s := start(t, l, mode, fmt.Sprintf(onePodConfig, addr))
				if n := len(s.connections(addr)); n > 1 {
					t.Errorf("%d connections before there was any message", n)
				}
				s.connectionsFall(t, addr, 0)
				c := rawConnect(t, l, "silent")
				_ = c.SetDeadline(time.Now().Add(stallLimit))
				var ms []message
				for n := range 300 {
					ms = append(ms, message{topic: "sensors/silent/temp", qos: 1, payload: fmt.Sprint(n)})
				}
				c.publishAll(ms, 32)
				if got, _ := r.all(); len(got) != len(ms) {
					t.Errorf("the server got %d messages of %d", len(got), len(ms))
				}
				slots := 1
				if f.close {
					slots = 0
				}
				s.slotsFall(t, addr, slots)
				before := s.counts()
				c.publish("sensors/silent/temp", 1, "after the burst")
				taken, _ := share(before, s.counts())
				if taken != slots {
					t.Errorf("after the burst the kernel took %d messages of one", taken)
				}
			})
		}
	}
}

// warm has a device publish so many messages at a time until the kernel takes them all:
// connections to pods are opened as messages need them.
func (s *system) warm(t *testing.T, topic string, window int) {
	t.Helper()
	if s.mode == "fallback" {
		return
	}
	c := rawConnect(t, s.lab, fmt.Sprintf("warm-%d", serial.Add(1)))
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(stallLimit))
	eventually(t, func() (bool, string) {
		before := s.counts()
		var ms []message
		for i := range window {
			ms = append(ms, message{topic: topic, payload: fmt.Sprint("warm-up ", i), qos: 1})
		}
		c.publishAll(ms, window)
		taken, _ := share(before, s.counts())
		return taken >= window, fmt.Sprintf("the kernel took %d of %d messages at a time", taken, window)
	})
}

// connectionsFall waits until a pod has no more than n connections.
func (s *system) connectionsFall(t *testing.T, pod string, n int) {
	t.Helper()
	eventually(t, func() (bool, string) {
		got := s.connections(pod)
		return len(got) <= n, fmt.Sprintf("%d connections to %s, want %d", len(got), pod, n)
	})
}

// slotsFall waits until a pod has n slots with a connection, all idle.
func (s *system) slotsFall(t *testing.T, pod string, n int) {
	t.Helper()
	eventually(t, func() (bool, string) {
		states := map[string]int{}
		for _, r := range s.mapsctl("slots") {
			if r["pod"] == pod {
				states[r["state"].(string)]++
			}
		}
		return states["idle"] == n && states["idle"]+states["closed"] == 16, fmt.Sprintf("slots of %s: %v, want %d", pod, states, n)
	})
}

// eventually waits until something is true.
func eventually(t *testing.T, f func() (bool, string)) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(stallLimit); ; {
		ok, why := f()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal(why)
		}
	}
}
