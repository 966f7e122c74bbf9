package kubernetes

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"eproxy/test/lib/lab"
)

// TestPods: a function's pods are those that a Service's EndpointSlices name and call
// ready. While there are none its messages wait; what keeps a Service from having any is said.
func TestPods(t *testing.T) {
	w := newWorld(t)
	p := w.eproxy("{service: temp, port: http}", w.token("eproxy", readSlices))
	w.says(p, "does the Service exist?")
	c := w.device("d")
	waits := c.Publish("sensors/d/temp", 1, false, "waits")
	w.service("temp", "http", map[lab.Role]bool{lab.Pod0: false})
	w.service("other", "http", map[lab.Role]bool{lab.Pod0: true})
	w.service("temp", "http", map[lab.Role]bool{lab.Pod1: true, lab.Pod0: false})
	if !waits.WaitTimeout(waitTime) || w.had("waits") != lab.Pod1 {
		t.Fatalf("the message that came before the pods went to %q", w.had("waits"))
	}
	w.service("temp", "http", map[lab.Role]bool{lab.Pod1: true, lab.Pod0: true})
	n := 0
	w.until("both pods to have messages", func() bool {
		payload := fmt.Sprint("both ", n)
		n++
		w.send(c, payload)
		return w.had(payload) == lab.Pod0
	})
	w.service("temp", "http", map[lab.Role]bool{lab.Pod1: false, lab.Pod0: true})
	w.until("the pod that is not ready to have no more", func() bool {
		before := n
		for ; n < before+20; n++ {
			w.send(c, fmt.Sprint("one ", n))
		}
		for i := before; i < n; i++ {
			if w.had(fmt.Sprint("one ", i)) != lab.Pod0 {
				return false
			}
		}
		return true
	})
	w.service("temp", "grpc", map[lab.Role]bool{lab.Pod0: true})
	w.says(p, `it has no TCP port \"http\"; its pods have: \"grpc\" (8080)`)
	w.service("temp", "http", map[lab.Role]bool{lab.Pod0: true})
	w.until("the port to be found again", func() bool { return strings.Count(p.Log(), "a Service may have pods again") == 2 }) // first by the Service
	w.send(c, "again")
	if err := w.client.DiscoveryV1().EndpointSlices(namespace).Delete(context.Background(), "temp-1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.until("the Service to be missed", func() bool { return strings.Count(p.Log(), "does the Service exist?") == 2 })
}

// TestDenied: a service account without the right is told so, once; with it, the function has
// its pods without a restart.
func TestDenied(t *testing.T) {
	w := newWorld(t)
	w.service("temp", "http", map[lab.Role]bool{lab.Pod0: true})
	p := w.eproxy("{service: temp}", w.token("eproxy"))
	w.says(p, `cannot list resource \"endpointslices\" in API group \"discovery.k8s.io\" in the namespace \"edge\"`)
	w.allow("eproxy", "eproxy", readSlices)
	w.send(w.device("d"), "allowed")
	w.says(p, "source of pods is back")
}

// TestOutage: while the API server is gone, messages go to the pods that it named last; when it is
// back, to those that it names now. Each is said once.
func TestOutage(t *testing.T) {
	w := newWorld(t)
	w.service("temp", "http", map[lab.Role]bool{lab.Pod0: true})
	p := w.eproxy("{service: temp}", w.token("eproxy", readSlices))
	c := w.device("d")
	w.send(c, "before")
	w.plane.StopAPI()
	w.says(p, "cannot be asked, what it said last stays")
	for i := range 100 {
		w.send(c, fmt.Sprint("meanwhile ", i))
	}
	if err := w.plane.StartAPI(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.service("temp", "http", map[lab.Role]bool{lab.Pod1: true})
	n := 0
	w.until("messages to go to the new pod", func() bool {
		n++
		payload := fmt.Sprint("after ", n)
		w.send(c, payload)
		return w.had(payload) == lab.Pod1
	})
	w.says(p, "cannot be asked, what it said last stays")
	w.says(p, "answers again")
}

// TestChange measures the time from the update of an EndpointSlice to the first message on
// the pod that it brings, under load; no message is lost.
func TestChange(t *testing.T) {
	const turns = 40
	w := newWorld(t)
	pods := []lab.Role{lab.Pod0, lab.Pod1}
	w.service("temp", "http", map[lab.Role]bool{lab.Pod0: true})
	w.eproxy("{service: temp}", w.token("eproxy", readSlices))
	c := w.device("d")
	w.send(c, "first")
	stop, sent := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { sent <- n }()
		for ; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if tok := c.Publish("sensors/d/temp", 1, false, fmt.Sprint("load ", n)); !tok.WaitTimeout(waitTime) || tok.Error() != nil {
				t.Errorf("message %d is not acknowledged: %v", n, tok.Error())
				return
			}
		}
	}()
	var took []time.Duration
	for turn := range turns {
		next := pods[(turn+1)%2]
		w.mu.Lock()
		from := len(w.log)
		w.mu.Unlock()
		began := time.Now()
		w.service("temp", "http", map[lab.Role]bool{next: true})
		w.until("a message on the new pod", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			for ; from < len(w.log); from++ {
				if w.log[from].pod == next {
					took = append(took, w.log[from].at.Sub(began))
					return true
				}
			}
			return false
		})
	}
	close(stop)
	n := <-sent
	for i := range n {
		if w.had(fmt.Sprint("load ", i)) == "" {
			t.Errorf("message %d is lost", i)
		}
	}
	slices.Sort(took)
	w.mu.Lock()
	t.Logf("%d changes, %d messages in %d requests; from update to first message: median %s, longest %s", turns, n, len(w.log), took[turns/2], took[turns-1])
	w.mu.Unlock()
}

// TestAddressOfAnotherPod: the counters of a pod that has another one's address begin at 0; where pods are the
// EndpointSlices say, whatever the way to them looks like.
func TestAddressOfAnotherPod(t *testing.T) {
	t.Setenv("NODE_NAME", "here")
	w := newWorld(t)
	address := lab.PodAddr(lab.Pod0, false).String() + ":8080"
	names := func(uid types.UID, node string) {
		w.slice("temp", "http", nil, map[lab.Role]bool{lab.Pod0: true}, func(_ lab.Role, e *discovery.Endpoint) {
			e.TargetRef, e.NodeName = &core.ObjectReference{Kind: "Pod", UID: uid}, &node
		})
	}
	names("one", "here")
	w.eproxy("{service: temp, port: http}", w.token("eproxy", readSlices))
	c := w.device("d")
	answered := func() float64 { return w.pods()[address]["answered"].(float64) }
	n := 0
	w.until("the first pod to answer in the kernel path", func() bool {
		n++
		w.send(c, fmt.Sprint("one ", n))
		return answered() >= 10
	})
	if place := w.pods()[address]["place"]; place != "local" {
		t.Errorf("a pod of this node is %v", place)
	}
	names("two", "there")
	w.until("the second pod", func() bool { return w.pods()[address]["place"] == "remote" })
	if now := answered(); now != 0 {
		t.Errorf("a pod that nobody has sent anything has answered %v requests", now)
	}
	w.send(c, "two")
	names("two", "here")
	w.until("the pod to be here", func() bool { return w.pods()[address]["place"] == "local" })
	w.until("the second pod to answer in the kernel path", func() bool {
		n++
		w.send(c, fmt.Sprint("two ", n))
		return answered() > 0
	})
}
