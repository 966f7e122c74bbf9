package main

import (
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/serving/pkg/autoscaler/aggregation"
	"knative.dev/serving/pkg/autoscaler/scaling"
)

// Knative's defaults (config-autoscaler of knative.dev/serving v0.50.0).
const (
	stableWindow = 60 * time.Second
	panicWindow  = 6 * time.Second
	// targetBurst is the burst capacity that Knative wants in reserve. With less,
	// the activator stays in the path, as it does for all functions here.
	targetBurst = 211
)

// knative drives Knative's own decider in simulated time: scaling.Scale takes
// the time, and so do the windows of pkg/autoscaler/aggregation that its
// collector keeps. What surrounds the decider, the ticks, the poke of the first
// request and the rule for the last instance, is in simulate.Scale.
type knative struct {
	decider       scaling.UniScaler
	log           *zap.SugaredLogger
	stable, panic *aggregation.TimedFloat64Buckets
	ready         int
	last          time.Duration // of a record
	desired       int
}

// newKnative makes a decider for the given concurrency per instance that is
// aimed at, of the given one that is possible.
func newKnative(target, total float64) *knative {
	k := &knative{
		log:    zap.NewNop().Sugar(),
		stable: aggregation.NewTimedFloat64Buckets(stableWindow, time.Second),
		panic:  aggregation.NewTimedFloat64Buckets(panicWindow, time.Second),
		last:   -stableWindow,
	}
	k.decider = scaling.New(*attribute.EmptySet(), noop.NewMeterProvider(), "simulated", "simulated", windows{k}, count{k}, &scaling.DeciderSpec{
		MaxScaleUpRate: 1000, MaxScaleDownRate: 2, TargetValue: target, TotalValue: total, TargetBurstCapacity: targetBurst,
		PanicThreshold: 2, StableWindow: stableWindow, Reachable: true,
	})
	return k
}

// instant of a simulated time. It must not be the zero time, to which the
// windows give a meaning.
func instant(at time.Duration) time.Time { return time.Unix(0, 0).Add(at) }

// Record tells of a second.
func (k *knative) Record(at time.Duration, average, _ float64) {
	k.stable.Record(instant(at), average)
	k.panic.Record(instant(at), average)
	k.last = at
}

// Scale asks the decider.
func (k *knative) Scale(at time.Duration, ready int) int {
	k.ready = ready
	if r := k.decider.Scale(k.log, instant(at)); r.ScaleValid {
		k.desired = int(r.DesiredPodCount)
	}
	return k.desired
}

// Quiet says that nothing happens until something is recorded.
func (k *knative) Quiet(at time.Duration) bool { return k.desired == 0 && at-k.last > stableWindow }

// windows are the decider's metrics.
type windows struct{ k *knative }

func (w windows) StableAndPanicConcurrency(_ types.NamespacedName, now time.Time) (stable, panic float64, err error) {
	return w.k.stable.WindowAverage(now), w.k.panic.WindowAverage(now), nil
}

func (w windows) StableAndPanicRPS(types.NamespacedName, time.Time) (stable, panic float64, err error) {
	return 0, 0, nil
}

// count is the decider's number of instances.
type count struct{ k *knative }

func (c count) ReadyCount() (int, error)    { return c.k.ready, nil }
func (c count) NotReadyCount() (int, error) { return 0, nil }
