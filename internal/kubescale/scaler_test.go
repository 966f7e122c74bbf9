package kubescale

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/demand"
	"eproxy/internal/kube"
	"eproxy/internal/traffic"
)

// cluster is a workload as an API server has it (test/kubernetes has the real one), and what a function has to do, in made-up time.
type cluster struct {
	now      time.Duration
	busy     int
	replicas int
	version  int // of the workload
	asked    int // requests
	err      error
}

func (c *cluster) scale() kube.Scale {
	return kube.Scale{Replicas: c.replicas, Version: time.Duration(c.version).String()}
}

func (c *cluster) Scale(context.Context, config.Workload) (kube.Scale, error) {
	c.asked++
	return c.scale(), c.err
}

func (c *cluster) SetScale(_ context.Context, _ config.Workload, was kube.Scale, replicas int) (kube.Scale, error) {
	c.asked++
	if was != c.scale() {
		return kube.Scale{}, kube.ErrConflict
	}
	c.replicas, c.version = replicas, c.version+1
	return c.scale(), c.err
}

func (c *cluster) Loads(func(string) bool, time.Duration) (traffic.Loads, error) {
	return traffic.Loads{}, nil
}

// Userspace is the integral of the concurrency so far.
func (c *cluster) Userspace(string, time.Duration) traffic.Sum { return traffic.Sum{} }

func (c *cluster) Busy(string) int { return c.busy }

// scaled is a function of that cluster.
func scaled(t *testing.T, c *cluster, most int) *function {
	t.Helper()
	s := New(Options{API: c, Source: c, Now: func() time.Duration { return c.now }, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	t.Cleanup(s.often.Close)
	c.now = time.Hour
	f := &function{s: s, name: "f", workload: config.Workload{Resource: "deployments", Name: "f", Max: most}, began: c.now, concurrency: 10}
	s.meters.Begin("f")
	return f
}

var _ demand.Source = (*cluster)(nil)

func (f *function) expect(t *testing.T, c *cluster, replicas, requests int) {
	t.Helper()
	before := c.asked
	if err := f.decide(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.replicas != replicas || c.asked-before != requests {
		t.Errorf("%d pods after %d requests, want %d after %d", c.replicas, c.asked-before, replicas, requests)
	}
}

// TestFromZero: the first message costs one request; nothing is asked while nothing comes; what others change is noticed.
func TestFromZero(t *testing.T) {
	c := &cluster{}
	f := scaled(t, c, 3)
	f.expect(t, c, 0, 1)
	c.now += 10 * time.Second
	f.expect(t, c, 0, 0)
	c.busy = 1
	f.expect(t, c, 1, 1)
	c.now += time.Second
	f.expect(t, c, 1, 0)
	c.replicas, c.version = 0, 99 // by somebody else
	c.now += decideEvery
	f.expect(t, c, 1, 2)
	// In the first minute none is taken away, and none of those that somebody else has added.
	c.busy = 0
	c.replicas, c.version = 2, 100
	c.now += 11 * time.Second
	f.expect(t, c, 2, 1)
	c.now += time.Minute
	f.expect(t, c, 0, 2)
}

// TestConflict: a change that somebody else's came before is tried again at once, upon what that has made of it.
func TestConflict(t *testing.T) {
	c := &cluster{}
	f := scaled(t, c, 3)
	f.expect(t, c, 0, 1)
	c.version = 7
	c.busy = 1
	f.expect(t, c, 1, 3) // refused, read, changed
	c.err = errors.New("no")
	c.now += time.Minute
	f.note(f.decide(t.Context()))
	if got := f.status().Reason; got != "no" {
		t.Errorf("reason %q", got)
	}
	c.err = nil
	f.note(f.decide(t.Context()))
	if got := f.status().Reason; got != "" {
		t.Errorf("reason %q", got)
	}
}

// deaf is an API server that answers nothing.
type deaf struct{}

func (deaf) Scale(context.Context, config.Workload) (kube.Scale, error) {
	return kube.Scale{}, errors.New("no answer")
}

func (deaf) SetScale(context.Context, config.Workload, kube.Scale, int) (kube.Scale, error) {
	return kube.Scale{}, errors.New("no answer")
}

// TestFollow: functions are scaled as long as the configuration says so, in the way that it says.
func TestFollow(t *testing.T) {
	c := &cluster{now: time.Hour, busy: 1}
	s := New(Options{API: deaf{}, Source: c, Now: func() time.Duration { return c.now }, Logger: slog.New(slog.DiscardHandler)})
	with := func(functions ...*config.Function) *config.Config { return &config.Config{Functions: functions} }
	some := &config.Function{Name: "f", Autoscaling: config.Autoscaling{Kubernetes: config.Workload{Name: "f", Max: 2}}}
	other := &config.Function{Name: "f", Autoscaling: config.Autoscaling{Kubernetes: config.Workload{Name: "f", Max: 3}}}
	for _, x := range []struct {
		live *config.Config
		max  []int
	}{{with(some, &config.Function{Name: "g"}), []int{2}}, {with(other), []int{3}}, {with(), nil}} {
		s.Follow(x.live)
		got := s.Functions()
		if len(got) != len(x.max) || len(got) == 1 && got[0].Max != x.max[0] {
			t.Errorf("%+v, want %v", got, x.max)
		}
	}
	ctx, end := context.WithCancel(t.Context())
	end()
	s.Run(ctx) // returns when nothing is asked any more
}
