package keda

import (
	"context"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/kedacore/keda/v2/pkg/scalers"
	"github.com/kedacore/keda/v2/pkg/scalers/scalersconfig"

	"eproxy/internal/config"
	"eproxy/internal/keda"
	"eproxy/internal/traffic"
)

const functionName = "temp"

// world is a node with one function, as demand.Source, in made-up time.
type world struct {
	mu      sync.Mutex
	clock   time.Duration
	tracker traffic.Tracker
	busy    int
	looked  chan struct{} // somebody has looked whether it is busy
}

func newWorld() *world { return &world{clock: time.Hour, looked: make(chan struct{}, 1000)} }

func (w *world) Loads(func(string) bool, time.Duration) (traffic.Loads, error) {
	return traffic.Loads{}, nil
}

func (w *world) Userspace(_ string, now time.Duration) traffic.Sum { return w.tracker.Sum(now) }

func (w *world) Busy(string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.looked <- struct{}{}:
	default:
	}
	return w.busy
}

func (w *world) now() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clock
}

// pass has time pass.
func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock += d
}

// arrive has a message come, which end ends.
func (w *world) arrive() (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := w.clock
	w.busy++
	w.tracker.Begin(at, false)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.busy--
		w.tracker.End(at, w.clock)
	}
}

// functions is a configuration with the function as it is with so many connections to each pod.
func functions(concurrency int) *config.Config {
	return &config.Config{Functions: []*config.Function{{Name: functionName, URL: &url.URL{Host: "temp"}, Concurrency: concurrency}}}
}

// node is a server of that world.
type node struct {
	*keda.Server
	address string
	stop    func() // and wait until it has ended
}

// serve serves at an address.
func (w *world) serve(t *testing.T, cfg *config.Config, address string, more func(*keda.Options)) *node {
	t.Helper()
	o := keda.Options{Source: w, Now: w.now, Logger: slog.New(slog.DiscardHandler)}
	if more != nil {
		more(&o)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &node{keda.New(cfg, o), l.Addr().String(), nil}
	var running sync.WaitGroup
	running.Go(func() { n.Run(ctx, l) })
	n.stop = func() { cancel(); running.Wait() }
	t.Cleanup(n.stop)
	return n
}

// operator is KEDA's scaler of a trigger, as its operator runs it.
type operator struct {
	scalers.PushScaler
	pushed <-chan bool
	metric string // its name, as the HPA has it
}

// operate begins a trigger of KEDA's. metadata is beside the address.
func operate(t *testing.T, address string, metadata, auth map[string]string) *operator {
	t.Helper()
	all := map[string]string{"scalerAddress": address, "function": functionName}
	for k, v := range metadata {
		all[k] = v
	}
	s, err := scalers.NewExternalPushScaler(&scalersconfig.ScalerConfig{ScalableObjectName: "temp", ScalableObjectNamespace: "edge", ScalableObjectType: "ScaledObject",
		TriggerType: "external-push", TriggerIndex: 3, TriggerMetadata: all, AuthParams: auth})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	active := make(chan bool)
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx, active) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		_ = s.Close(context.Background())
	})
	return &operator{s, active, "s3-messages"}
}

// ask is what KEDA's loop asks for at each poll.
func (o *operator) ask(t *testing.T) (value float64, active bool) {
	t.Helper()
	values, active, err := o.GetMetricsAndActivity(t.Context(), o.metric)
	if err != nil {
		t.Fatal(err)
	}
	if len(values) != 1 {
		t.Fatalf("%d values", len(values))
	}
	return values[0].Value.AsApproximateFloat64(), active
}

// within is how long a test waits for what must come.
const within = 30 * time.Second

func (o *operator) expectPush(t *testing.T, what string) {
	t.Helper()
	select {
	case active, open := <-o.pushed:
		if !active || !open {
			t.Fatalf("%s: %v was pushed, open %v", what, active, open)
		}
	case <-time.After(within):
		t.Fatalf("%s: nothing was pushed", what)
	}
}

// awaitLook waits until a stream has looked at the function: so many times.
func (w *world) awaitLook(t *testing.T, times int) {
	t.Helper()
	for range times {
		select {
		case <-w.looked:
		case <-time.After(within):
			t.Fatal("no stream looks at the function")
		}
	}
}
