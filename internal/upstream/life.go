package upstream

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"eproxy/internal/config"
)

// probesAtOnce bounds how many probes are under way.
const probesAtOnce = 64

// Life follows pods by a Machine.
type Life struct {
	log      *slog.Logger
	answered func(ID) uint64
	changed  chan struct{}
	wake     chan struct{}
	room     chan struct{} // for probes
	failing  atomic.Bool   // some pod has failed: successes count

	mu     sync.Mutex
	m      *Machine
	served map[string]served // by function, as the latest Apply has made it
	hosts  map[string]string // of requests, by function
}

// New makes a Life without pods. answered says how many requests a pod has answered
// of which Request is not told.
func New(log *slog.Logger, answered func(ID) uint64) *Life {
	l := &Life{log: log, answered: answered, changed: make(chan struct{}, 1), wake: make(chan struct{}, 1), room: make(chan struct{}, probesAtOnce), served: make(map[string]served)}
	l.m = NewMachine(l.notice)
	return l
}

// notice logs a pod's new state and has the pods in service looked at again; l.mu is held.
func (l *Life) notice(p Pod) {
	switch p.State {
	case Suspect:
		l.log.Warn("pod rests", "function", p.Function, "pod", p.Address, "reason", p.Reason)
	case Ready, Discovered, Drained:
		l.log.Info("pod is "+p.State.String(), "function", p.Function, "pod", p.Address, "reason", p.Reason)
	}
	poke(l.changed)
}

// poke makes a channel with room for one readable.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Changed is sent to when Apply may give another result.
func (l *Life) Changed() <-chan struct{} { return l.changed }

// Apply has the pods of a configuration followed, and no others. It returns the
// configuration with those that are to get messages now.
func (l *Life) Apply(cfg *config.Config) *config.Config {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.m.Want(cfg.Functions, time.Now())
	select {
	case <-l.changed: // whatever has changed until now is in what is returned
	default:
	}
	l.failing.Store(l.m.Failing())
	l.hosts = make(map[string]string, len(cfg.Functions))
	out := *cfg
	out.Functions = make([]*config.Function, len(cfg.Functions))
	for i, fn := range cfg.Functions {
		l.hosts[fn.Name] = fn.URL.Host
		out.Functions[i] = l.serving(fn)
	}
	maps.DeleteFunc(l.served, func(name string, _ served) bool { _, known := l.hosts[name]; return !known })
	clear(l.m.touched)
	poke(l.wake)
	return &out
}

// Undo undoes the latest Apply, whose configuration could not be had. The one before is to
// be applied again.
func (l *Life) Undo() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.m.restore()
}

// served is a function with those of its pods that get messages, and what it was made of.
type served struct{ of, with *config.Function }

// serving is a function with those of its pods that get messages: the same one as long as these are the
// same. l.mu is held.
func (l *Life) serving(fn *config.Function) *config.Function {
	if s := l.served[fn.Name]; s.of == fn && !l.m.touched[fn.Name] {
		return s.with
	}
	with := l.ready(fn)
	l.served[fn.Name] = served{fn, with}
	return with
}

// ready is serving, anew.
func (l *Life) ready(fn *config.Function) *config.Function {
	pods := make([]netip.AddrPort, 0, len(fn.Pods))
	for _, a := range fn.Pods {
		if l.m.Serves(ID{fn.Name, a}) {
			pods = append(pods, a)
		}
	}
	if len(pods) == len(fn.Pods) {
		return fn
	}
	out := *fn
	out.Pods = pods
	return &out
}

// Unserved are the pods that get no messages, with their states.
func (l *Life) Unserved() []Pod {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.m.Unserved()
}

// Pods are all pods with their states.
func (l *Life) Pods() []Pod {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.m.Pods()
}

// Run probes pods until ctx ends.
func (l *Life) Run(ctx context.Context) {
	var probes sync.WaitGroup
	defer probes.Wait()
	for {
		l.mu.Lock()
		due := l.m.Due(time.Now())
		next, any := l.m.Next()
		l.mu.Unlock()
		for _, x := range due {
			probes.Go(func() { l.probe(ctx, x) })
		}
		if !any && !l.sleep(ctx, nil) || any && !l.sleep(ctx, time.After(time.Until(next))) {
			return
		}
	}
}

// sleep waits until there is something new, or it is time; false: ctx has ended.
func (l *Life) sleep(ctx context.Context, over <-chan time.Time) bool {
	select {
	case <-ctx.Done():
		return false
	case <-l.wake:
	case <-over:
	}
	return true
}

// probe makes one probe.
func (l *Life) probe(ctx context.Context, x Probe) {
	select {
	case l.room <- struct{}{}:
	case <-ctx.Done():
		return
	}
	l.mu.Lock()
	host := l.hosts[x.Function]
	l.mu.Unlock()
	err := probe(ctx, x.Address, x.What, host)
	<-l.room
	l.mu.Lock()
	l.m.Probed(x, err, time.Now())
	l.mu.Unlock()
	poke(l.wake)
}

// Request notes how a request fared that a pod was sent: its status, 0 if there was no
// response. A pod has failed if there was none, or if it says that it cannot
// serve (502, 503, 504; RFC 9110 section 15.6); other errors are the function's.
func (l *Life) Request(function, pod string, status int) {
	failed := status == 0 || status >= 502 && status <= 504
	if !failed && !l.failing.Load() {
		return
	}
	address, err := netip.ParseAddrPort(pod)
	if err != nil {
		return
	}
	id := ID{function, address}
	why := fmt.Sprintf("%d requests in a row had no response", failureLimit)
	if status != 0 {
		why = fmt.Sprintf("%d requests in a row failed, the latest with %d", failureLimit, status)
	}
	var answered uint64
	if failed {
		answered = l.answered(id)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !failed {
		l.m.Succeeded(id)
	} else if l.m.Failed(id, answered, why, time.Now()) {
		poke(l.wake)
	}
	l.failing.Store(l.m.Failing())
}

// Waits logs that messages wait for a function that has no pod; for delivery.Options.
func Waits(log *slog.Logger) func(function string) {
	return func(function string) {
		log.Warn("messages wait, no pod of the function is ready", "function", function)
	}
}
