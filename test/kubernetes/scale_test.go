package kubernetes

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"eproxy/test/lib/lab"
)

// The size of TestScale.
const (
	steadyFunctions = 19
	steadyPods      = 50 // of each of them
	movingFunctions = 50 // of one pod each, which is replaced by another one, once a second
	scaleRoutes     = 10000
	scaleTurns      = 3
	scaleTurn       = 5 * time.Second // without changes, and then with them
	scalePause      = 15 * time.Millisecond
)

// scale is the functions of TestScale and what they had.
type scale struct {
	w      *world
	waits  []atomic.Int64 // by port: when an EndpointSlice began to name this pod, which had no message since, Unix nanoseconds
	mu     sync.Mutex
	took   []time.Duration        // from then to the first message
	first  map[[2]int64]time.Time // when that was, by port and by then
	update []time.Duration        // from then to the API server's answer
	named  []naming
	copies map[string]int // by payload
}

// naming is when an EndpointSlice began to name a pod.
type naming struct {
	function, port int
	at             time.Time
}

// readyLine is the log's line of a pod that is ready.
var readyLine = regexp.MustCompile(`time=(\S+) level=INFO msg="pod is ready" function=f(\d+) pod=\S+:(\d+) `)

// known is how long it took until the loader called each pod ready that was named, by its log, and from then to its first message.
func (s *scale) known(log string) (took, served []time.Duration) {
	type pod struct{ function, port string }
	lines := make(map[pod][]time.Time)
	for _, m := range readyLine.FindAllStringSubmatch(log, -1) {
		at, err := time.Parse(time.RFC3339Nano, m[1])
		if err != nil {
			s.w.t.Fatal(err)
		}
		lines[pod{m[2], m[3]}] = append(lines[pod{m[2], m[3]}], at)
	}
	for _, n := range s.named {
		for _, at := range lines[pod{fmt.Sprint(n.function), fmt.Sprint(n.port)}] {
			if at.Sub(n.at) > -time.Millisecond { // the log has no finer times
				took = append(took, at.Sub(n.at))
				if first, ok := s.first[[2]int64{int64(n.port), n.at.UnixNano()}]; ok {
					served = append(served, first.Sub(at))
				}
				break
			}
		}
	}
	return took, served
}

// scalePort is the port of the first pod.
const scalePort = 20000

// serve runs the pod with a number, and returns its address.
func (s *scale) serve(i int) (lab.Role, int32) {
	s.w.t.Helper()
	role := []lab.Role{lab.Pod0, lab.Pod1}[i%2]
	ln, err := s.w.Listen(role, net.JoinHostPort(lab.PodAddr(role, false).String(), fmt.Sprint(scalePort+i)))
	if err != nil {
		s.w.t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		now := time.Now().UnixNano()
		body := make([]byte, 64)
		n, _ := r.Body.Read(body)
		since := s.waits[i].Swap(0)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.copies[string(body[:n])]++
		if since != 0 {
			s.took = append(s.took, time.Duration(now-since))
			s.first[[2]int64{int64(scalePort + i), since}] = time.Unix(0, now)
		}
	})}
	go func() { _ = server.Serve(ln) }()
	s.w.t.Cleanup(func() { _ = server.Close() })
	return role, int32(scalePort + i)
}

// name writes the EndpointSlices of a Service: one for each port, as there is one pod at each.
func (s *scale) name(ctx context.Context, service string, pods ...int) error {
	for at, i := range pods {
		name, number := "http", int32(scalePort+i)
		role := []lab.Role{lab.Pod0, lab.Pod1}[i%2]
		slice := &discovery.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(service, "-", at), Namespace: namespace, Labels: map[string]string{discovery.LabelServiceName: service}},
			AddressType: discovery.AddressTypeIPv4, Ports: []discovery.EndpointPort{{Name: &name, Port: &number}},
			Endpoints: []discovery.Endpoint{{Addresses: []string{lab.PodAddr(role, false).String()}}}}
		client := s.w.client.DiscoveryV1().EndpointSlices(namespace)
		_, err := client.Update(ctx, slice, metav1.UpdateOptions{})
		if err != nil {
			_, err = client.Create(ctx, slice, metav1.CreateOptions{})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// config has a function for each Service, and routes.
func (s *scale) config() string {
	var functions, routes strings.Builder
	functions.WriteString("limits: {pods: 4096}\nfunctions:\n")
	routes.WriteString("routes:\n")
	for i := range steadyFunctions + movingFunctions {
		fmt.Fprintf(&functions, "  - {name: f%d, url: \"http://f.local/\", kubernetes: {service: f%d}, retry: {attempts: 50, backoff: 10ms, max_backoff: 50ms}}\n", i, i)
		fmt.Fprintf(&routes, "  - {topic: go/%d, function: f%d}\n", i, i)
	}
	for i := range scaleRoutes - steadyFunctions - movingFunctions {
		fmt.Fprintf(&routes, "  - {topic: site/%d/+/temp, function: f%d}\n", i, i%steadyFunctions)
	}
	return functions.String() + routes.String()
}

// device publishes to a function until it is stopped; add gets how long each acknowledgement took.
func (s *scale) device(i int, stop chan struct{}, add func(time.Duration)) (sent []string) {
	c := s.w.device(fmt.Sprint("d", i))
	pause := time.NewTicker(scalePause)
	defer pause.Stop()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return sent
		case <-pause.C:
		}
		payload := fmt.Sprint(i, " ", n)
		began := time.Now()
		if err := publish(c, fmt.Sprint("go/", i), payload); err != nil {
			s.w.t.Errorf("%s: %v", payload, err)
			return sent
		}
		add(time.Since(began))
		sent = append(sent, payload)
	}
}

func publish(c mqtt.Client, topic, payload string) error {
	tok := c.Publish(topic, 1, false, payload)
	if !tok.WaitTimeout(waitTime) {
		return fmt.Errorf("not acknowledged after %s", waitTime)
	}
	return tok.Error()
}

// move replaces the pod of each moving function by its other one and back, one function after the
// other, each once a second, until it is stopped.
func (s *scale) move(stop chan struct{}, turn []int, first int) {
	pause := time.NewTicker(time.Second / movingFunctions)
	defer pause.Stop()
	var under sync.WaitGroup
	defer under.Wait()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-pause.C:
		}
		k := n % movingFunctions
		turn[k] ^= 1
		pod := first + 2*k + turn[k]
		under.Go(func() {
			began := time.Now()
			s.waits[pod].Store(began.UnixNano())
			if err := s.name(context.Background(), fmt.Sprint("f", steadyFunctions+k), pod); err != nil {
				s.w.t.Error(err)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.update = append(s.update, time.Since(began))
			s.named = append(s.named, naming{steadyFunctions + k, scalePort + pod, began})
		})
	}
}

// TestScale: with a thousand pods and ten thousand routes, fifty pods a second are replaced under load. No
// message is lost, and each new pod gets messages. How long that takes from the update of the EndpointSlice, and
// what it costs messages for other functions, is printed.
func TestScale(t *testing.T) {
	w := newWorld(t)
	s := &scale{w: w, waits: make([]atomic.Int64, steadyFunctions*steadyPods+2*movingFunctions), copies: make(map[string]int), first: make(map[[2]int64]time.Time)}
	for i := range s.waits {
		s.serve(i)
	}
	first := steadyFunctions * steadyPods
	for f := range steadyFunctions {
		var pods []int
		for i := range steadyPods {
			pods = append(pods, f*steadyPods+i)
		}
		if err := s.name(t.Context(), fmt.Sprint("f", f), pods...); err != nil {
			t.Fatal(err)
		}
	}
	for k := range movingFunctions {
		if err := s.name(t.Context(), fmt.Sprint("f", steadyFunctions+k), first+2*k); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	p := w.run(w.token("eproxy", readSlices), "", s.config())
	w.until("all pods to be ready", func() bool { return strings.Count(p.Log(), "pod is ready") >= first+movingFunctions })
	t.Logf("%d pods, %d routes: serving and all pods ready after %s", first+movingFunctions, scaleRoutes, time.Since(began).Round(time.Millisecond))
	var mu sync.Mutex
	var changing atomic.Bool
	took := make(map[bool][]time.Duration) // of messages for functions whose pods stay, by whether others' change
	stop := make(chan struct{})
	var devices sync.WaitGroup
	var sent [steadyFunctions + movingFunctions][]string
	for i := range sent {
		devices.Go(func() {
			sent[i] = s.device(i, stop, func(d time.Duration) {
				if i < steadyFunctions {
					mu.Lock()
					defer mu.Unlock()
					took[changing.Load()] = append(took[changing.Load()], d)
				}
			})
		})
	}
	turn := make([]int, movingFunctions)
	for range scaleTurns {
		time.Sleep(scaleTurn) // load without changes
		ended, over := make(chan struct{}), make(chan struct{})
		changing.Store(true)
		go func() {
			defer close(over)
			s.move(ended, turn, first)
		}()
		time.Sleep(scaleTurn)
		close(ended)
		<-over
		w.until("every new pod to have a message", func() bool {
			return !slices.ContainsFunc(turnOf(turn, first), func(i int) bool { return s.waits[i].Load() != 0 })
		})
		changing.Store(false)
	}
	close(stop)
	devices.Wait()
	n, twice := 0, 0
	for i := range sent {
		for _, payload := range sent[i] {
			n++
			switch c := s.copies[payload]; {
			case c == 0:
				t.Errorf("%q was acknowledged, and no function had it", payload)
			case c > 1:
				twice++
			}
		}
	}
	known, served := s.known(p.Log())
	t.Logf("%d messages, %d delivered twice; %d changes; from the update to the first message on the new pod: %s; to the API server's answer: %s; to the loader's knowing it: %s; from there to the first message: %s",
		n, twice, len(s.took), quantiles(s.took), quantiles(s.update), quantiles(known), quantiles(served))
	t.Logf("acknowledgements of functions whose pods stay: without changes %s; with 50 a second elsewhere %s", quantiles(took[false]), quantiles(took[true]))
}

// turnOf are the pods that the moving functions have.
func turnOf(turn []int, first int) (pods []int) {
	for k, t := range turn {
		pods = append(pods, first+2*k+t)
	}
	return pods
}

// quantiles says how long things took.
func quantiles(took []time.Duration) string {
	if len(took) == 0 {
		return "none"
	}
	slices.Sort(took)
	at := func(q float64) time.Duration {
		return took[min(int(q*float64(len(took))), len(took)-1)].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("p50 %s, p99 %s, p99.9 %s, longest %s", at(0.5), at(0.99), at(0.999), at(1))
}
