package kubescale

import (
	"context"
	"errors"
	"sync"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/kube"
	"eproxy/internal/predict"
)

const (
	// decideEvery is how often it is decided, as Knative's autoscaler does.
	decideEvery = 2 * time.Second
	// What a workload is to have is read anew after so long: somebody else may have changed it.
	oldWhileBusy = 10 * time.Second
	oldWhileIdle = time.Minute
	// requestTime bounds one request.
	requestTime = 5 * time.Second
	// conflicts is how often a change is tried again at once that somebody else's has come before.
	conflicts = 3
)

// function is one that is scaled.
type function struct {
	s        *Scaler
	name     string
	workload config.Workload
	stop     context.CancelFunc
	began    time.Duration
	news     chan struct{} // sent to when a message waits

	mu          sync.Mutex
	pods        int // that get messages
	concurrency int // of each
	known       bool
	scale       kube.Scale
	read        time.Duration
	reason      string
}

// know tells of the pods of now.
func (f *function) know(pods, concurrency int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pods, f.concurrency = pods, concurrency
}

func (f *function) poke() {
	select {
	case f.news <- struct{}{}:
	default: // it is looked at soon
	}
}

// run scales the function until ctx ends.
func (f *function) run(ctx context.Context) {
	t := time.NewTicker(decideEvery)
	defer t.Stop()
	for {
		err := f.decide(ctx)
		if ctx.Err() != nil {
			return
		}
		f.note(err)
		select {
		case <-ctx.Done():
			return
		case <-f.news:
		case <-t.C:
		}
	}
}

// note has an error shown, and logged when it is another one.
func (f *function) note(err error) {
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	f.mu.Lock()
	was := f.reason
	f.reason = reason
	f.mu.Unlock()
	switch {
	case reason == was:
	case err != nil:
		f.s.often.Warn("function cannot be scaled, it is tried again", f.name+reason, "function", f.name, "error", err)
	default:
		f.s.Logger.Info("function can be scaled again", "function", f.name)
	}
}

// decide has the workload have as many pods as the function needs.
func (f *function) decide(ctx context.Context) error {
	var err error
	for range conflicts {
		var now kube.Scale
		if now, err = f.current(ctx); err != nil {
			return err
		}
		n := f.want(now.Replicas)
		if n == now.Replicas {
			return nil
		}
		if err = f.set(ctx, now, n); !errors.Is(err, kube.ErrConflict) {
			return err
		}
	}
	return err
}

// current is what the workload is to have, as it was read lately. Whoever has changed it since is noticed when it is changed: the
// version is another one then.
func (f *function) current(ctx context.Context) (kube.Scale, error) {
	now := f.s.Now()
	f.mu.Lock()
	old := oldWhileBusy
	if f.known && f.scale.Replicas == 0 && f.pods == 0 {
		old = oldWhileIdle
	} else if f.known && f.pods == 0 && f.s.Source.Busy(f.name) > 0 {
		old = decideEvery // it may have none after all
	}
	if f.known && now-f.read < old {
		defer f.mu.Unlock()
		return f.scale, nil
	}
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	s, err := f.s.API.Scale(ctx, f.workload)
	return s, f.learn(s, err)
}

// set changes what the workload is to have.
func (f *function) set(ctx context.Context, was kube.Scale, n int) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	s, err := f.s.API.SetScale(ctx, f.workload, was, n)
	if err == nil {
		f.s.Logger.Info("function is scaled", "function", f.name, "from", was.Replicas, "to", n)
	}
	return f.learn(s, err)
}

// learn keeps what the API server says; after an error it is asked again.
func (f *function) learn(s kube.Scale, err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known, f.scale, f.read = err == nil, s, f.s.Now()
	return err
}

// want is how many pods there should be where there are to be so many. In the first minute none is taken away: nothing is known then
// of what there was to do before.
func (f *function) want(replicas int) int {
	now := f.s.Now()
	f.mu.Lock()
	pods, concurrency := f.pods, f.concurrency
	f.mu.Unlock()
	n := f.s.meters.Scale(f.name, now, pods, concurrency)
	if f.s.meters.Active(f.name, now) {
		n = max(n, 1)
	}
	if now-f.began < predict.StableWindow {
		n = max(n, replicas)
	}
	return min(max(n, f.workload.Min), f.workload.Max)
}

// status is the function as it is shown.
func (f *function) status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := Status{Function: f.name, Pods: f.pods, Min: f.workload.Min, Max: f.workload.Max, Reason: f.reason}
	switch {
	case f.known:
		x.Replicas = f.scale.Replicas
	case x.Reason == "":
		x.Reason = "how many pods it is to have has not been read yet"
	}
	return x
}
