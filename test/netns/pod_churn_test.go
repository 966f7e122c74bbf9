package netns

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"eproxy/test/lib/lab"
)

// churnTime is how long TestChurn runs, unless EPROXY_CHURN says otherwise; churnClients
// how many devices send meanwhile, unless EPROXY_CHURN_CLIENTS does.
const (
	churnTime    = 4 * time.Second
	churnClients = 6
)

const churnConfig = `functions:
  - name: temp
    url: http://temp.local/ingest
    discover: {file: "%[1]s"}
    timeout: 3s
    pipeline: 8
    retry: {attempts: 50, backoff: 20ms, max_backoff: 500ms}
  - name: hum
    url: http://hum.local/ingest
    discover: {file: "%[2]s"}
    probe: tcp
    timeout: 3s
    retry: {attempts: 50, backoff: 20ms, max_backoff: 500ms}
routes:
  - topic: sensors/+/temp
    function: temp
  - topic: sensors/+/hum
    function: hum
`

// herd is pods that come and go, several at each host, on ports of their own. The first
// stays, and is always named.
type herd struct {
	t       *testing.T
	lab     *lab.Lab
	handler http.Handler
	rng     *rand.Rand
	files   map[string]string // by function
	named   map[string][]int  // pods, by function
	servers []*http.Server    // by pod; nil: down
	listens []net.Listener    // of those: a server knows its own only when its goroutine has run
	changes map[string]int    // by kind
}

func newHerd(t *testing.T, l *lab.Lab, r *recorder, seed uint64, pods int) *herd {
	h := &herd{t: t, lab: l, handler: r.handler(ok), rng: rand.New(rand.NewPCG(seed, 5)), servers: make([]*http.Server, pods), listens: make([]net.Listener, pods),
		files: make(map[string]string), named: make(map[string][]int), changes: make(map[string]int)}
	for _, fn := range []string{"temp", "hum"} {
		h.files[fn] = filepath.Join(t.TempDir(), fn)
		h.named[fn] = []int{0}
		h.write(fn)
	}
	h.start(0)
	t.Cleanup(func() {
		for i := range h.servers {
			h.stop(i)
		}
	})
	return h
}

// address of a pod; every second is at the other host.
func (h *herd) address(i int) (lab.Role, string) {
	role := []lab.Role{lab.Pod0, lab.Pod1}[i%2]
	return role, fmt.Sprintf("%s:%d", lab.PodAddr(role, false), 8080+i)
}

// write has a function's file name the pods that it is to name.
func (h *herd) write(fn string) {
	var lines []string
	for _, i := range h.named[fn] {
		_, a := h.address(i)
		lines = append(lines, "- "+a+"\n")
	}
	next := h.files[fn] + ".next"
	if err := os.WriteFile(next, []byte(strings.Join(lines, "")), 0o600); err != nil {
		h.t.Error(err)
	}
	if err := os.Rename(next, h.files[fn]); err != nil {
		h.t.Error(err)
	}
}

// start brings a pod up; while its host is cut off that may fail, and it stays down.
func (h *herd) start(i int) {
	role, a := h.address(i)
	if h.servers[i] != nil {
		return
	}
	ln, err := h.lab.Listen(role, a)
	if err != nil {
		h.t.Error(err)
		return
	}
	h.servers[i], h.listens[i] = &http.Server{Handler: h.handler}, ln
	go func(s *http.Server, ln net.Listener) { _ = s.Serve(ln) }(h.servers[i], ln)
}

// stop kills a pod with what it has in flight.
func (h *herd) stop(i int) {
	if h.servers[i] != nil {
		_ = h.listens[i].Close()
		_ = h.servers[i].Close()
		h.servers[i] = nil
	}
}

// change changes something at random; never the first pod.
func (h *herd) change() {
	i := 1 + h.rng.IntN(len(h.servers)-1)
	fn := []string{"temp", "hum"}[h.rng.IntN(2)]
	kind := ""
	switch h.rng.IntN(20) {
	case 0:
		kind = "moved" // all pods at this host
		if err := h.lab.Cut(lab.Pod1); err != nil {
			h.t.Error(err)
		}
		if err := h.lab.Join(lab.Pod1); err != nil {
			h.t.Error(err)
		}
	case 1, 2, 3:
		kind = "killed"
		h.stop(i)
	case 4:
		kind = "reused"
		h.stop(i)
		h.start(i)
	case 5, 6, 7, 8, 9:
		kind = "started"
		h.start(i)
	default:
		if at := slices.Index(h.named[fn], i); at >= 0 {
			kind = "removed"
			h.named[fn] = slices.Delete(h.named[fn], at, at+1)
		} else {
			kind = "added"
			h.named[fn] = append(h.named[fn], i)
		}
		h.write(fn)
	}
	h.changes[kind]++
}

// TestChurn: pods are added, removed, killed, started again at the same address and moved to
// another interface, at random, while devices send. What was acknowledged was delivered, whole, where it
// belongs; QoS 0 at most once. How long acknowledgements took is printed.
func TestChurn(t *testing.T) {
	duration, clients := churnTime, churnClients
	if v := os.Getenv("EPROXY_CHURN"); v != "" {
		var err error
		if duration, err = time.ParseDuration(v); err != nil {
			t.Fatalf("EPROXY_CHURN: %v", err)
		}
		clients = 50
	}
	for _, mode := range []string{"tc", "xdp"} {
		t.Run(mode, func(t *testing.T) {
			seed := seedOf(t)
			l := newLab(t)
			r := newRecorder()
			h := newHerd(t, l, r, seed, 8)
			s := start(t, l, mode, fmt.Sprintf(churnConfig, h.files["temp"], h.files["hum"]))
			before := s.counts()
			over := make(chan struct{})
			var others sync.WaitGroup
			others.Go(func() {
				pause := time.NewTicker(30 * time.Millisecond) // between two changes
				defer pause.Stop()
				for {
					select {
					case <-over:
						return
					case <-pause.C:
						h.change()
					}
				}
			})
			duplicates, delivered := 0, 0
			others.Go(func() {
				for round := uint64(0); ; round++ {
					devices := newFleet(l, seed+round, clients, 200)
					fleet(t, devices, 4*time.Minute)
					got, _ := r.all() // what was acknowledged was delivered before
					n, err := check(got, devices)
					if err != nil {
						t.Error(err)
					}
					r.forget()
					duplicates += n
					delivered += clients * 200
					select {
					case <-over:
						return
					default:
					}
				}
			})
			took := h.measure(duration)
			close(over)
			others.Wait()
			taken, eligible := share(before, s.counts())
			slices.Sort(took)
			t.Logf("changes %v; %d messages, %d delivered twice; %d of %d taken by the programs; acknowledged after p50 %v, p99 %v, longest %v",
				h.changes, delivered, duplicates, taken, eligible, took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
			if taken == 0 {
				t.Error("the programs have taken nothing")
			}
			s.waitState(lab.Pod0, "ready")
		})
	}
}

// measure sends messages one after the other for so long, and returns how long their
// acknowledgements took.
func (h *herd) measure(duration time.Duration) (took []time.Duration) {
	c := rawConnect(h.t, h.lab, "meter")
	for end := time.Now().Add(duration); time.Now().Before(end); {
		id := uint16(len(took)%1000 + 1)
		began := time.Now()
		_ = c.SetDeadline(began.Add(stallLimit)) // of this message
		c.write(publishPacket("sensors/meter/temp", 1, id, sealed("meter", "temp", int(id), 10)))
		c.acknowledged(id)
		took = append(took, time.Since(began))
	}
	return took
}
