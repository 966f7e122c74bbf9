package knative

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	netcfg "knative.dev/networking/pkg/config"
	"knative.dev/serving/pkg/apis/autoscaling/v1alpha1"
	"knative.dev/serving/pkg/apis/serving"
	"knative.dev/serving/pkg/autoscaler/metrics"
	"knative.dev/serving/pkg/autoscaler/scaling"
	"knative.dev/serving/pkg/autoscaler/statserver"
	"knative.dev/serving/pkg/resources"

	"eproxy/internal/config"
	"eproxy/internal/knative"
	"eproxy/internal/traffic"
	"eproxy/test/lib/address"
)

// kind is how a request comes to a pod.
type kind int

const (
	ownKernel   kind = iota // by the programs
	ownFallback             // by this program's own connections
	others                  // by somebody else
	activator               // by Knative's activator, who tells of it
	probe                   // of the kubelet
	kinds
)

// event is a request.
type event struct {
	from, to time.Duration
	pod      int
	kind     kind
}

// day are the events of so many seconds, in order: a load that goes up and down, with bursts and hours of silence.
func day(seconds int, pods int) []event {
	rng := rand.New(rand.NewPCG(1, 2))
	var out []event
	for s := range seconds {
		hour := s / 3600 % 24
		rate := [24]float64{2: 0, 3: 0, 4: 0.02, 6: 0.5, 7: 2, 8: 3, 9: 1, 12: 2, 13: 0.1, 17: 4, 18: 2, 20: 0.5}[hour]
		if s/600%17 == 3 && s%600 < 20 {
			rate = 12
		}
		for range poisson(rng, rate) {
			at := time.Duration(s)*time.Second + time.Duration(rng.Int64N(int64(time.Second)))
			took := time.Duration(rng.ExpFloat64() * float64(700*time.Millisecond))
			if rng.IntN(50) == 0 {
				took *= 20
			}
			out = append(out, event{at, at + took + time.Microsecond, rng.IntN(pods), kind(rng.IntN(int(kinds)))})
		}
	}
	slices.SortFunc(out, func(a, b event) int { return int(a.from - b.from) })
	return out
}

func poisson(rng *rand.Rand, rate float64) (n int) {
	for t := rng.ExpFloat64(); t < rate; t += rng.ExpFloat64() {
		n++
	}
	return n
}

// world is a node that sees the events, as knative.Source.
type world struct {
	events []event
	next   int
	live   []event
	pods   []netip.AddrPort
	all    [][kinds]*traffic.Tracker // by pod
	ended  []traffic.Sum             // of the programs' own, that were answered
	flight []int64
	listen map[netip.AddrPort]net.Listener
}

const functionName = "temp"

func newWorld(events []event, pods []netip.AddrPort) *world {
	w := &world{events: events, pods: pods, ended: make([]traffic.Sum, len(pods))}
	for range pods {
		var row [kinds]*traffic.Tracker
		for i := range row {
			row[i] = new(traffic.Tracker)
		}
		w.all = append(w.all, row)
	}
	return w
}

// advance has everything happen until now.
func (w *world) advance(now time.Duration) {
	for w.next < len(w.events) && w.events[w.next].from <= now {
		e := w.events[w.next]
		w.next++
		w.all[e.pod][e.kind].Begin(e.from, false)
		w.live = append(w.live, e)
	}
	w.live = slices.DeleteFunc(w.live, func(e event) bool {
		if e.to > now {
			return false
		}
		w.all[e.pod][e.kind].End(e.from, e.to)
		if e.kind == ownKernel {
			w.ended[e.pod] = w.ended[e.pod].Plus(traffic.Sum{Arrived: 1, Integral: e.to - e.from})
		}
		return true
	})
}

func (w *world) Loads(_ func(string) bool, now time.Duration) (traffic.Loads, error) {
	l := traffic.Loads{Functions: make(map[string]traffic.Sum), Pods: make(map[traffic.Pod]traffic.Sum)}
	for i, a := range w.pods {
		sum := w.all[i][ownKernel].Sum(now)
		l.Functions[functionName] = l.Functions[functionName].Plus(sum)
		l.Pods[traffic.Pod{Function: functionName, Address: a}] = sum.Minus(w.ended[i])
	}
	return l, nil
}

func (w *world) Userspace(_ string, now time.Duration) (sum traffic.Sum) {
	for i := range w.pods {
		sum = sum.Plus(w.all[i][ownFallback].Sum(now))
	}
	return sum
}

func (w *world) Waiting(string) int { return 0 }

var clock time.Duration // of the simulation

func (w *world) HTTP(pod netip.AddrPort) (h traffic.HTTP, ok bool) {
	i := slices.Index(w.pods, pod)
	h.Own = w.ended[i]
	h.Probes = w.all[i][probe].Sum(clock)
	h.Proxied = w.all[i][ownFallback].Sum(clock).Plus(w.all[i][activator].Sum(clock))
	h.All = h.Own.Plus(h.Probes).Plus(h.Proxied).Plus(w.all[i][others].Sum(clock))
	return h, true
}

func (w *world) Listen(ctx context.Context, pod netip.AddrPort, port uint16) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", netip.AddrPortFrom(pod.Addr(), port).String())
}

var key = types.NamespacedName{Namespace: "edge", Name: "temp-00001"}

// revision is what the autoscaler knows of the function.
func revision() *v1alpha1.Metric {
	return &v1alpha1.Metric{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Labels: map[string]string{serving.RevisionLabelKey: key.Name}},
		Spec:       v1alpha1.MetricSpec{StableWindow: time.Minute, PanicWindow: 6 * time.Second, ScrapeTarget: "none"},
	}
}

// silent scrapes nothing: the collector only keeps what it is given.
type silent struct{}

func (silent) Scrape(time.Duration) (metrics.Stat, error) { return metrics.Stat{}, nil }

// autoscaler is Knative's collector and decider, in simulated time.
type autoscaler struct {
	*metrics.MetricCollector
	decider scaling.UniScaler
	ready   int
}

func newAutoscaler(t *testing.T) *autoscaler {
	t.Helper()
	log := zap.NewNop().Sugar()
	c := metrics.NewMetricCollector(func(*v1alpha1.Metric, *zap.SugaredLogger) (metrics.StatsScraper, error) { return silent{}, nil }, log)
	if err := c.CreateOrUpdate(revision()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Delete(key.Namespace, key.Name) })
	a := &autoscaler{MetricCollector: c}
	a.decider = scaling.New(*attribute.EmptySet(), noop.NewMeterProvider(), key.Namespace, key.Name, c, a, &scaling.DeciderSpec{
		MaxScaleUpRate: 1000, MaxScaleDownRate: 2, TargetValue: 0.7, TotalValue: 1, TargetBurstCapacity: 211,
		PanicThreshold: 2, StableWindow: time.Minute, Reachable: true,
	})
	return a
}

func (a *autoscaler) ReadyCount() (int, error)    { return a.ready, nil }
func (a *autoscaler) NotReadyCount() (int, error) { return 0, nil }

// instant of simulated time; never the zero time, to which the windows give a meaning.
func instant(at time.Duration) time.Time { return time.Unix(1e6, 0).Add(at) }

// decide is how many instances are wanted; the ones before are ready.
func (a *autoscaler) decide(at time.Duration) scaling.ScaleResult {
	r := a.decider.Scale(zap.NewNop().Sugar(), instant(at))
	if r.ScaleValid {
		a.ready = int(r.DesiredPodCount)
	}
	return r
}

// scraper is Knative's own, of these pods.
func scraper(t *testing.T, pods []netip.AddrPort) metrics.StatsScraper {
	t.Helper()
	index := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	for i, a := range pods {
		start := metav1.NewTime(time.Now().Add(-time.Hour))
		if err := index.Add(&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: fmt.Sprint("pod-", i), Labels: map[string]string{serving.RevisionLabelKey: key.Name}},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: a.Addr().String(), StartTime: &start,
				Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	accessor := resources.NewPodAccessor(corelisters.NewPodLister(index), key.Namespace, key.Name)
	return metrics.NewStatsScraper(revision(), key.Name, accessor, false, netcfg.MeshCompatibilityModeDisabled, zap.NewNop().Sugar(), noop.NewMeterProvider())
}

// statServer is Knative's own, and a Pusher that is connected to it.
func statServer(t *testing.T) (*knative.Pusher, <-chan metrics.StatMessage) {
	t.Helper()
	at := address.Free(t)
	stats := make(chan metrics.StatMessage, 100)
	s := statserver.New(at, stats, zap.NewNop().Sugar(), nil)
	go func() { _ = s.ListenAndServe() }()
	t.Cleanup(func() { s.Shutdown(time.Millisecond) })
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	p := knative.NewPusher((&url.URL{Scheme: "ws", Host: at}).String(), discard())
	go p.Run(ctx)
	// What is pushed before the connection is up is dropped, and what is pushed comes in order.
	mark := func(name string) {
		p.Push(knative.AppendMessages(nil, []knative.Message{{Namespace: name, Revision: name}}))
	}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for up := false; !up; {
		mark("first")
		select {
		case <-stats:
			up = true
		case <-again.C:
		}
	}
	mark("last")
	for m := range stats {
		if m.Key.Name == "last" {
			break
		}
	}
	return p, stats
}

// TestDay: over a day Knative decides as it would on the exact events, each of them counted once, whichever way it came.
func TestDay(t *testing.T) {
	seconds := 86400
	if testing.Short() {
		seconds = 7200
	}
	pods := []netip.AddrPort{netip.MustParseAddrPort("127.14.15.1:8080"), netip.MustParseAddrPort("127.14.15.2:8080")}
	events := day(seconds, len(pods))
	w := newWorld(events, pods)
	pusher, stats := statServer(t)
	pushes := 0
	r := knative.New(knative.Options{Source: w, Name: "node", Now: func() time.Duration { return clock }, Logger: discard(),
		Push: func(b []byte) { pushes++; pusher.Push(b) }})
	r.Follow(&config.Config{Functions: []*config.Function{{Name: functionName, Pods: pods,
		Autoscaling: config.Autoscaling{Knative: config.Knative{Port: 9090, Namespace: key.Namespace, Revision: key.Name}}}}})
	defer r.Follow(&config.Config{})
	clock = 0
	r.Tick(t.Context())
	told, exact := newAutoscaler(t), newAutoscaler(t)
	s := scraper(t, pods)
	truth, arrived := truths(events, seconds)
	var counted, scraped float64
	for sec := range seconds {
		clock = time.Duration(sec+1) * time.Second
		w.advance(clock)
		before := pushes
		r.Tick(t.Context())
		stat, err := s.Scrape(time.Minute)
		if err != nil {
			t.Fatal(sec, err)
		}
		told.Record(key, instant(clock), stat)
		scraped += stat.RequestCount
		counted += stat.RequestCount - stat.ProxiedRequestCount
		for ; before < pushes; before++ {
			m := <-stats
			if m.Key != key {
				t.Fatal(m.Key)
			}
			told.Record(m.Key, instant(clock), m.Stat)
			counted += m.Stat.RequestCount
		}
		exact.Record(key, instant(clock), metrics.Stat{AverageConcurrentRequests: truth[sec], RequestCount: arrived[sec]})
		if sec%2 == 0 {
			if a, b := told.decide(clock), exact.decide(clock); a != b {
				t.Fatalf("second %d: %+v, by the exact events %+v", sec, a, b)
			}
		}
	}
	want, seen := 0.0, 0.0
	for _, e := range events {
		if e.from > clock {
			continue
		}
		if e.kind <= others {
			want++
		}
		if e.kind != probe {
			seen++
		}
	}
	if counted != want || scraped != seen {
		t.Errorf("%v requests counted of %v, %v of %v at the pods", counted, want, scraped, seen)
	}
	t.Logf("%d seconds, %d events, %v counted, %d pushes", seconds, len(events), counted, pushes)
}

// truths are what the autoscaler is to know of each second: what an activator tells of itself and probes are not among it.
func truths(events []event, seconds int) (concurrency, arrived []float64) {
	area := make([]time.Duration, seconds)
	arrived = make([]float64, seconds)
	for _, e := range events {
		if e.kind > others {
			continue
		}
		arrived[int((e.from-1)/time.Second)]++
		for s := int(e.from / time.Second); s < seconds && time.Duration(s)*time.Second < e.to; s++ {
			begin, end := time.Duration(s)*time.Second, time.Duration(s+1)*time.Second
			area[s] += min(e.to, end) - max(e.from, begin)
		}
	}
	for _, a := range area {
		concurrency = append(concurrency, a.Seconds())
	}
	return concurrency, arrived
}
