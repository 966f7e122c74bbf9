package observe

import (
	"bytes"
	"flag"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"golang.org/x/sys/unix"

	"eproxy/internal/bpf/observer"
	"eproxy/internal/metrics"
	"eproxy/internal/pindir"
	"eproxy/internal/reach"
	"eproxy/test/lib/bpffs"
)

var update = flag.Bool("update", false, "write what is expected anew")

// newObserver is one that is attached nowhere.
func newObserver(t testing.TB, pods int) *Observer {
	t.Helper()
	dir := bpffs.Mount(t)
	spec, err := observer.LoadObserve()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "maps"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"flows", "slots"} { // the other programs'
		m, err := ebpf.NewMap(spec.Maps[name])
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if err := m.Pin(pindir.Path(dir, "maps", name)); err != nil {
			t.Fatal(err)
		}
	}
	o, err := Load(Options{BPFFS: dir, Connections: 16, Pods: pods, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	return o
}

func podAddress(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 8080)
}

// put has a pod observed that has counted something else in each place, and some of it on another processor.
func put(t testing.TB, o *Observer, n int, function string, path reach.Path) {
	t.Helper()
	a := podAddress(n)
	o.want(a, function, path)
	each := make([]observer.ObserveObserveCounts, ebpf.MustPossibleCPU())
	words := unsafe.Slice((*uint64)(unsafe.Pointer(&each[0])), unsafe.Sizeof(each[0])/8)
	for i := range words {
		words[i] = uint64((n + 1) * (i + 1))
	}
	last := &each[len(each)-1] // the same one on a machine with one
	last.Requests += 5
	last.Took[100] += 5
	p := o.pods[a]
	if err := o.objs.Observed.Put(p.index, each); err != nil {
		t.Fatal(err)
	}
}

// text is what is gathered as Prometheus reads it.
func text(t testing.TB, o *Observer) []byte {
	t.Helper()
	m := metrics.New()
	m.Registry = prometheus.NewRegistry() // nothing but the observer's
	m.Add(o)
	families, err := m.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return []byte(written(t, families))
}

func written(t testing.TB, families []*dto.MetricFamily) string {
	t.Helper()
	families = slices.Clone(families)
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	var b strings.Builder
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// TestMetricsAreAsEver: names, labels, order and values of what is reported, of processors together. One pod cannot be seen.
func TestMetricsAreAsEver(t *testing.T) {
	o := newObserver(t, 8)
	o.followed = 7
	put(t, o, 10, "b", reach.Path{Interface: "x"})
	put(t, o, 9, "b", reach.Path{Interface: "x"})
	put(t, o, 300, "a,c", reach.Path{Reason: "none"})
	got := text(t, o)
	const file = "testdata/metrics.txt"
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestScrapesFollowThePods: a scrape has the pods and functions of its time and what they have counted by then, whatever
// memory it uses again, and changes nothing of what somebody keeps of an earlier one.
func TestScrapesFollowThePods(t *testing.T) {
	o := newObserver(t, 8)
	put(t, o, 1, "a", reach.Path{Interface: "x"})
	scrape := func() string {
		t.Helper()
		families, done, err := o.Gather()
		if err != nil {
			t.Fatal(err)
		}
		defer done()
		return written(t, families)
	}
	kept, _, err := o.Gather()
	if err != nil {
		t.Fatal(err)
	}
	before := written(t, kept)
	steps := []struct {
		name   string
		change func()
	}{
		{"nothing", func() {}},
		{"counts", func() { put(t, o, 1, "a", reach.Path{Interface: "x"}); count(t, o, 1, 99) }},
		{"another pod", func() { put(t, o, 2, "a", reach.Path{Interface: "x"}) }},
		{"another function", func() { o.want(podAddress(2), "b", reach.Path{Interface: "x"}) }},
		{"not to be seen", func() { o.want(podAddress(2), "b", reach.Path{Reason: "none"}) }},
		{"a pod less", func() { left(t, o, 2) }},
		{"none", func() { left(t, o, 1) }},
	}
	last := before
	for _, s := range steps {
		s.change()
		got := scrape()
		if (got == last) != (s.name == "nothing") {
			t.Errorf("%s: the scrape is as before: %v", s.name, got == last)
		}
		if want := fresh(t, o); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", s.name, got, want)
		}
		last = got
	}
	if after := written(t, kept); after != before {
		t.Errorf("what was kept has changed to\n%s\nfrom\n%s", after, before)
	}
}

// fresh is a scrape that uses no memory again.
func fresh(t *testing.T, o *Observer) string {
	t.Helper()
	made := o.newTree()
	for _, p := range made.pods {
		if err := o.gather(p, &made.reading); err != nil {
			t.Fatal(err)
		}
	}
	return written(t, made.families)
}

// count has a pod count so many requests.
func count(t *testing.T, o *Observer, n int, requests uint64) {
	t.Helper()
	each := make([]observer.ObserveObserveCounts, ebpf.MustPossibleCPU())
	each[0].Requests = requests
	if err := o.objs.Observed.Put(o.pods[podAddress(n)].index, each); err != nil {
		t.Fatal(err)
	}
}

// left gives a pod up: no new connection is followed in the first round, what there is goes in the second.
func left(t *testing.T, o *Observer, n int) {
	t.Helper()
	o.pods[podAddress(n)].left = time.Unix(1, 0)
	o.forgetPods(time.Now())
	o.forgetPods(time.Now())
	if o.pods[podAddress(n)] != nil {
		t.Fatal("the pod was not given up")
	}
}

// BenchmarkScrape is a scrape of the observer's metrics of 500 pods, as text. cpu-ms is processor time, which other work on the
// machine changes little.
func BenchmarkScrape(b *testing.B) {
	o := newObserver(b, 500)
	for i := range 500 {
		put(b, o, i, "f", reach.Path{Interface: "x"})
	}
	m := metrics.New()
	m.Add(o)
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/metrics", nil)
	for name, encoding := range map[string]string{"plain": "identity", "gzip": "gzip"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			r.Header.Set("Accept-Encoding", encoding)
			before := processorTime(b)
			for b.Loop() {
				w := httptest.NewRecorder()
				w.Body = nil
				m.Handler().ServeHTTP(w, r)
			}
			b.ReportMetric((processorTime(b)-before).Seconds()*1000/float64(b.N), "cpu-ms")
		})
	}
	b.Run("gather", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, done, err := o.Gather()
			if err != nil {
				b.Fatal(err)
			}
			done()
		}
	})
}

// processorTime is that of this process.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
