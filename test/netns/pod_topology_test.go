package netns

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"eproxy/test/lib/lab"
)

// Pods near by, on another node behind a gateway, and on the far side of the interface that devices arrive on.
const (
	nearPod    = "10.88.1.2:8080"
	gatewayPod = "10.99.9.2:8080"
	outsidePod = "10.88.0.2:8081"
)

// topologyConfig has a function whose pods the programs reach, and one that has a pod for sockets alone.
const topologyConfig = `functions:
  - {name: kernel, url: "http://kernel.local/", pods: ["` + gatewayPod + `", "` + nearPod + `"], concurrency: 1, pipeline: 1, topology: %[1]s}
  - {name: sockets, url: "http://sockets.local/", pods: ["` + outsidePod + `", "` + nearPod + `"], concurrency: 1, pipeline: 1, topology: %[1]s}
routes:
  - {topic: kernel/#, function: kernel}
  - {topic: sockets/#, function: sockets}
`

// whereabouts is which pod got which messages. Those that begin with "held" are answered at the end.
type whereabouts struct {
	t       *testing.T
	held    chan string // pods that got such a one
	release chan struct{}
	once    sync.Once

	mu   sync.Mutex
	pods map[string]string // by payload
}

// free answers what is held.
func (w *whereabouts) free() { w.once.Do(func() { close(w.release) }) }

func (w *whereabouts) serve(l *lab.Lab, host lab.Role, address string) {
	serveOn(w.t, l, host, address, http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			return
		}
		w.mu.Lock()
		w.pods[strings.TrimRight(string(body), ".")] = address
		w.mu.Unlock()
		if strings.HasPrefix(string(body), "held") {
			w.held <- address
			<-w.release
		}
	}), nil)
}

// at is the pod that got a message.
func (w *whereabouts) at(payload string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pods[payload]
}

// awaitHeld waits for a message that is held, and says which pod has it.
func (w *whereabouts) awaitHeld() string {
	w.t.Helper()
	select {
	case pod := <-w.held:
		return pod
	case <-time.After(stallLimit):
		w.t.Fatal("a message has not reached any pod")
		return ""
	}
}

// TestTopology: pods on this node get messages as long as they can carry more, on both paths, and those on other
// nodes get them while these are busy; with `topology: any` all do.
func TestTopology(t *testing.T) {
	for _, mode := range []string{"tc", "xdp"} {
		for _, topology := range []string{"prefer-local", "any"} {
			t.Run(mode+"/"+topology, func(t *testing.T) {
				l := newLab(t)
				onNode(t, l, "ip route add 10.99.9.2/32 via 10.88.2.2")
				if out, err := l.Run(context.Background(), lab.Pod1, "ip", "addr", "add", "10.99.9.2/32", "dev", "lo"); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				w := &whereabouts{t: t, held: make(chan string, 8), release: make(chan struct{}), pods: make(map[string]string)}
				w.serve(l, lab.Pod0, nearPod)
				w.serve(l, lab.Pod1, gatewayPod)
				w.serve(l, lab.Dev, outsidePod)
				t.Cleanup(w.free)
				s := start(t, l, mode, fmt.Sprintf(topologyConfig, topology))
				for _, row := range s.mapsctl("pods") {
					if local := row["pod"] == nearPod; (row["place"] == "local") != local {
						t.Errorf("%s: %s", row["pod"], row["place"])
					}
				}
				s.warm(t, "kernel/warm", 1)
				c := rawConnect(t, l, "dev")
				_ = c.SetDeadline(time.Now().Add(2 * stallLimit))
				if topology == "any" {
					w.anywhere(c)
					return
				}
				w.nearFirst(l, s, c)
			})
		}
	}
}

// long is a message that only userspace takes.
func long(payload string) string { return payload + strings.Repeat(".", 3000) }

// nearFirst: each message goes to the pod near by, but for those that come while it is busy.
func (w *whereabouts) nearFirst(l *lab.Lab, s *system, c *rawConn) {
	const n = 20
	before := s.counts()
	for i := range uint16(n) {
		for _, to := range []struct{ topic, payload string }{{"kernel/a", fmt.Sprint("short ", i)}, {"sockets/a", long(fmt.Sprint("long ", i))}} {
			c.publish(to.topic, i+1, to.payload)
			if pod := w.at(strings.TrimRight(to.payload, ".")); pod != nearPod {
				w.t.Fatalf("%s, message %d: at %s, while the pod near by has nothing to do", to.topic, i, pod)
			}
		}
	}
	if taken, _ := share(before, s.counts()); taken != n {
		w.t.Errorf("the kernel took %d of %d messages", taken, n)
	}
	busy := rawConnect(w.t, l, "busy")
	_ = busy.SetDeadline(time.Now().Add(2 * stallLimit))
	busy.write(publishPacket("kernel/b", 1, 1, "held 1"))
	if pod := w.awaitHeld(); pod != nearPod {
		w.t.Fatalf("at %s, while the pod near by has nothing to do", pod)
	}
	busy.write(publishPacket("sockets/b", 1, 2, long("held 2")))
	if pod := w.awaitHeld(); pod != nearPod {
		w.t.Fatalf("in userspace: at %s, while the pod near by has nothing to do", pod)
	}
	before = s.counts()
	c.publish("kernel/a", 101, "beside")
	c.publish("sockets/a", 102, long("long beside"))
	if a, b := w.at("beside"), w.at("long beside"); a != gatewayPod || b != outsidePod {
		w.t.Errorf("at %s and %s, while the pod near by is busy", a, b)
	}
	if taken, _ := share(before, s.counts()); taken != 1 {
		w.t.Errorf("the kernel took %d messages, want 1", taken)
	}
	w.free()
	busy.acknowledgedAll(1, 2)
}

// anywhere: messages go to both pods of each function.
func (w *whereabouts) anywhere(c *rawConn) {
	pods := make(map[string]int)
	for i := range uint16(40) {
		short, long := fmt.Sprint("short ", i), long(fmt.Sprint("long ", i))
		c.publish("kernel/a", i+1, short)
		c.publish("sockets/a", i+101, long)
		pods[w.at(short)]++
		pods[w.at(fmt.Sprint("long ", i))]++
	}
	if pods[nearPod] == 0 || pods[gatewayPod] == 0 || pods[outsidePod] == 0 { // by chance once in 2^39
		w.t.Errorf("messages at each pod: %v", pods)
	}
}
