package spans

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"eproxy/internal/request"
	"eproxy/internal/trace"
	"eproxy/internal/tracecontext"
	"eproxy/test/lib/bubble"
	"eproxy/test/lib/gathered"
)

const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// collector is who gets spans.
type collector struct {
	t *testing.T

	mu     sync.Mutex
	status int    // that it answers; 0: 200
	answer []byte // with that
	asked  int
	spans  []*tracepb.Span
	from   map[string]string // the resource
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	body, err := io.ReadAll(r.Body)
	var data tracepb.TracesData
	if err != nil || proto.Unmarshal(body, &data) != nil || r.Method != http.MethodPost || r.URL.Path != "/base/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		c.t.Errorf("%s %s %v: %v, %v", r.Method, r.URL, r.Header, err, &data)
	}
	if c.status != 0 {
		w.WriteHeader(c.status)
		return
	}
	for _, resource := range data.GetResourceSpans() {
		c.from = make(map[string]string)
		for _, a := range resource.GetResource().GetAttributes() {
			c.from[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for _, scope := range resource.GetScopeSpans() {
			c.spans = append(c.spans, scope.GetSpans()...)
		}
	}
	_, _ = w.Write(c.answer)
}

// RoundTrip is a connection to the collector without a network; status below 0: there is none.
func (c *collector) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	down := c.status < 0
	c.mu.Unlock()
	if down {
		return nil, errors.New("connection refused")
	}
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	return w.Result(), nil
}

func (c *collector) set(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = status
}

func (c *collector) got() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.spans)
}

// logText is what was logged.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newExporter(t *testing.T, base string, c *collector) (*Exporter, *logText) {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	var logged logText
	e := New(u, slog.New(slog.NewTextHandler(&logged, nil)))
	if c != nil {
		e.client.Transport = c
	}
	return e, &logged
}

// results are the metrics of an exporter that are not 0.
func results(t *testing.T, e *Exporter) map[string]float64 {
	t.Helper()
	out := make(map[string]float64)
	for key, v := range gathered.Values(t, e) {
		if _, result, _ := strings.Cut(key, " "); v > 0 {
			out[result] = v
		}
	}
	return out
}

func sampled(made bool) *request.Trace {
	c, _ := tracecontext.Parse(parent)
	return &request.Trace{Context: c, Made: made}
}

// TestExport: a collector gets a span of each message whose trace is sampled, that of the trace's beginning or a child of its publisher's.
func TestExport(t *testing.T) {
	c := &collector{t: t}
	server := httptest.NewServer(c)
	defer server.Close()
	e, _ := newExporter(t, server.URL+"/base", nil)
	stop := e.Start()
	ended := time.Unix(1_800_000_000, 5)
	event := trace.Event{Time: ended, Client: "c", Topic: "a/b", QoS: 1, Path: trace.Kernel, Route: "a/+", Function: "f", Pod: "10.0.0.1:80", Status: 200, Outcome: "delivered", Took: time.Second}
	e.Ended(sampled(true), event)
	event.Outcome, event.Status, event.Pod = "failed", 503, ""
	e.Ended(sampled(false), event)
	off := sampled(true)
	off.Context.Flags = 0
	e.Ended(off, event)
	e.Ended(nil, event)
	stop()
	if len(c.spans) != 2 || c.from["service.name"] != "eproxy" || c.from["host.name"] == "" {
		t.Fatalf("%d spans of %v", len(c.spans), c.from)
	}
	root, child := c.spans[0], c.spans[1]
	for name, x := range map[string][2]string{
		"trace":        {hex.EncodeToString(root.GetTraceId()), parent[3:35]},
		"span":         {hex.EncodeToString(root.GetSpanId()), parent[36:52]},
		"its parent":   {hex.EncodeToString(root.GetParentSpanId()), ""},
		"its name":     {root.GetName(), "publish a/+"},
		"child's":      {hex.EncodeToString(child.GetTraceId()), parent[3:35]},
		"child's own":  {hex.EncodeToString(child.GetParentSpanId()), parent[36:52]},
		"child failed": {child.GetStatus().GetMessage(), "failed"},
	} {
		if x[0] != x[1] {
			t.Errorf("%s is %q, want %q", name, x[0], x[1])
		}
	}
	if len(child.GetSpanId()) != 8 || bytes.Equal(child.GetSpanId(), root.GetSpanId()) {
		t.Errorf("span %x of a publisher's %x", child.GetSpanId(), root.GetSpanId())
	}
	if root.GetStatus().GetCode() != tracepb.Status_STATUS_CODE_UNSET || child.GetStatus().GetCode() != tracepb.Status_STATUS_CODE_ERROR {
		t.Errorf("status %v, %v", root.GetStatus(), child.GetStatus())
	}
	if got := root.GetEndTimeUnixNano(); got != uint64(ended.UnixNano()) || got-root.GetStartTimeUnixNano() != uint64(time.Second) {
		t.Errorf("from %d to %d", root.GetStartTimeUnixNano(), got)
	}
	attributes := make(map[string]string)
	for _, a := range root.GetAttributes() {
		attributes[a.GetKey()] = strings.TrimPrefix(a.GetValue().String(), "string_value:")
	}
	for key, want := range map[string]string{"messaging.destination.name": `"a/b"`, "messaging.destination.template": `"a/+"`, "messaging.client.id": `"c"`, "eproxy.function": `"f"`, "eproxy.path": `"kernel"`,
		"eproxy.pod": `"10.0.0.1:80"`, "http.response.status_code": "int_value:200", "eproxy.qos": "int_value:1", "eproxy.outcome": `"delivered"`} {
		if attributes[key] != want {
			t.Errorf("%s is %s, want %s", key, attributes[key], want)
		}
	}
	if got, want := results(t, e), map[string]float64{"sent": 2}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestCollectorDown: while no collector is there nobody waits, so many spans wait, those beyond are dropped and counted, and one line says so;
// when it is there it gets what waits.
func TestCollectorDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &collector{t: t, status: -1}
		e, logged := newExporter(t, "http://c/base", c)
		var elsewhere atomic.Uint64
		e.LostElsewhere(elsewhere.Load)
		stop := e.Start()
		e.Ended(sampled(true), trace.Event{})
		bubble.Pass(t, 10*time.Minute) // of the test's own clock
		const more = 10
		elsewhere.Store(7)
		for range waiting + more {
			e.Ended(sampled(true), trace.Event{})
		}
		if got, want := results(t, e), map[string]float64{"dropped": more + 7}; !maps.Equal(got, want) {
			t.Errorf("while it is down: %v, want %v", got, want)
		}
		if n := strings.Count(logged.String(), "\n"); n != 1 || !strings.Contains(logged.String(), `level=WARN msg="spans are not exported" error="http://c/base/v1/traces: connection refused"`) {
			t.Errorf("%d lines:\n%s", n, logged)
		}
		for range 3 { // hours of it are not one line
			bubble.Pass(t, time.Hour)
			e.Ended(sampled(true), trace.Event{})
		}
		for _, line := range []string{`msg="spans are lost" spans=17 dropped_so_far=17 failed_so_far=0 rejected_so_far=0`, `msg="spans are lost" spans=1 dropped_so_far=18 `, `msg="spans are lost" spans=1 dropped_so_far=19 `} {
			if strings.Count(logged.String(), line) != 1 {
				t.Errorf("no line with %s:\n%s", line, logged)
			}
		}
		c.set(0)
		bubble.Pass(t, maxBackoff+time.Duration(waiting/together+1)*linger)
		if got, want := results(t, e), map[string]float64{"dropped": more + 3 + 7, "sent": waiting + 1}; !maps.Equal(got, want) || c.got() != waiting+1 {
			t.Errorf("when it is up: %v, want %v", got, want)
		}
		if n := strings.Count(logged.String(), "\n"); n != 6 || !strings.Contains(logged.String(), `level=INFO msg="spans are exported again" dropped_so_far=20`) {
			t.Errorf("%d lines:\n%s", n, logged)
		}
		stop()
	})
}

// TestAnswers: what the collector does not take now it gets again; what it will never take, and what it has rejected, is counted.
func TestAnswers(t *testing.T) {
	partial := protowire.AppendTag(nil, 1, protowire.BytesType)
	partial = protowire.AppendBytes(partial, protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 3))
	for name, x := range map[string]struct {
		status int
		answer []byte
		want   map[string]float64
	}{
		"ok":             {0, nil, map[string]float64{"sent": 5}},
		"partial":        {0, partial, map[string]float64{"sent": 2, "rejected": 3}},
		"malformed":      {0, []byte{0xff}, map[string]float64{"sent": 5}},
		"not found":      {404, nil, map[string]float64{"failed": 5}},
		"later":          {503, nil, map[string]float64{}},
		"too many":       {429, nil, map[string]float64{}},
		"internal error": {500, nil, map[string]float64{"failed": 5}},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := &collector{t: t, status: x.status, answer: x.answer}
			e, logged := newExporter(t, "http://c/base/", c)
			stop := e.Start()
			for range 5 {
				e.Ended(sampled(true), trace.Event{})
			}
			bubble.Pass(t, 2*linger)
			if got := results(t, e); !maps.Equal(got, x.want) {
				t.Errorf("%s: %v, want %v", name, got, x.want)
			}
			if len(x.want) > 0 {
				if lost := x.want["failed"] + x.want["rejected"]; (lost > 0) != strings.Contains(logged.String(), fmt.Sprintf(`msg="spans are lost" spans=%g `, lost)) {
					t.Errorf("%s: %g spans are lost, the log is\n%s", name, lost, logged)
				}
				stop()
				return
			}
			c.set(0)
			bubble.Pass(t, maxBackoff)
			if got, want := results(t, e), map[string]float64{"sent": 5}; !maps.Equal(got, want) {
				t.Errorf("%s, then: %v, want %v", name, got, want)
			}
			stop()
		})
	}
}

// TestLostInPrograms: the log says so also while the collector takes all that it gets, and while it gets nothing.
func TestLostInPrograms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lost atomic.Uint64
		e, logged := newExporter(t, "http://c/base", &collector{t: t})
		e.LostElsewhere(lost.Load)
		stop := e.Start()
		lost.Store(3)
		bubble.Pass(t, tellEvery)
		stop()
		if got := logged.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `level=WARN msg="spans are lost" spans=3 dropped_so_far=3 `) {
			t.Errorf("the log is\n%s", got)
		}
	})
}

// TestEnd: what waits at the end is exported, or counted as failed; that takes no longer than it may.
func TestEnd(t *testing.T) {
	for status, want := range map[int]map[string]float64{0: {"sent": together + 5}, -1: {"failed": together + 5}} {
		synctest.Test(t, func(t *testing.T) {
			c := &collector{t: t, status: status}
			e, _ := newExporter(t, "http://c/base", c)
			for range together + 5 {
				e.Ended(sampled(true), trace.Event{})
			}
			e.Start()()
			if got := results(t, e); !maps.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}

// TestNone: without a collector nothing is done.
func TestNone(t *testing.T) {
	e := New(nil, nil)
	if e.On() {
		t.Error("on")
	}
	e.Ended(sampled(true), trace.Event{})
	e.Start()()
}

var _ http.RoundTripper = (*collector)(nil)
