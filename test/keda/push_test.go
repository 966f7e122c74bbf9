package keda

import (
	"net"
	"os"
	"testing"
	"time"

	"k8s.io/api/autoscaling/v2"

	"eproxy/internal/config"
	"eproxy/internal/keda"
	"eproxy/internal/transport"
	"eproxy/test/lib/certs"
)

// TestFirstMessage: the first message for a function without pods is pushed to each operator at once, after hours without one, and
// before it nothing is.
func TestFirstMessage(t *testing.T) {
	w := newWorld()
	n := w.serve(t, functions(16), "127.0.0.1:0", nil)
	// Of another name of the same server, so that they share no connection.
	_, port, err := net.SplitHostPort(n.address)
	if err != nil {
		t.Fatal(err)
	}
	all := []*operator{operate(t, n.address, nil, nil), operate(t, "localhost:"+port, nil, nil)}
	w.awaitLook(t, len(all)) // the streams are open
	for range 10 {
		w.pass(time.Hour)
		n.Tick()
	}
	for i, o := range all {
		if value, active := o.ask(t); active || value != 0 {
			t.Errorf("operator %d: active %v, %v messages, before there is one", i, active, value)
		}
		select {
		case active := <-o.pushed:
			t.Errorf("operator %d: %v was pushed before there was a message", i, active)
		default:
		}
	}
	w.arrive()
	began := time.Now()
	n.Activate(functionName)
	for _, o := range all {
		o.expectPush(t, "first message")
	}
	t.Logf("pushed to both %s after the message", time.Since(began))
	for i, o := range all {
		if _, active := o.ask(t); !active {
			t.Errorf("operator %d: not active while a message waits", i)
		}
		o.expectPush(t, "again, while it waits: KEDA may have lost the first")
	}
}

// TestActivity: a function is active as long as it has messages, and for a minute after, so that no poll of KEDA's misses it;
// nothing but true is ever pushed.
func TestActivity(t *testing.T) {
	w := newWorld()
	n := w.serve(t, functions(16), "127.0.0.1:0", nil)
	o := operate(t, n.address, nil, nil)
	o.ask(t)
	n.Tick()
	w.arrive()() // one that takes no time
	w.pass(time.Second)
	n.Tick()
	o.expectPush(t, "a message has come and gone")
	for s := range 90 {
		if _, active := o.ask(t); active != (s < 60) {
			t.Fatalf("%d s after the message: active %v", s, active)
		}
		w.pass(time.Second)
		n.Tick()
	}
}

// TestMetric: an HPA is told how many messages there were at a time, and how many a pod is meant to have.
func TestMetric(t *testing.T) {
	w := newWorld()
	n := w.serve(t, functions(16), "127.0.0.1:0", nil)
	for _, c := range []struct {
		target string
		want   int64 // thousandths
	}{{"", 11_200}, {"2.5", 2500}} {
		metadata := map[string]string{}
		if c.target != "" {
			metadata["target"] = c.target
		}
		specs := operate(t, n.address, metadata, nil).GetMetricSpecForScaling(t.Context())
		if len(specs) != 1 || specs[0].External.Metric.Name != "s3-messages" || specs[0].External.Target.Type != v2.AverageValueMetricType ||
			specs[0].External.Target.AverageValue.MilliValue() != c.want {
			t.Errorf("target %q: %+v", c.target, specs)
		}
	}
	o := operate(t, n.address, nil, nil)
	o.ask(t)
	n.Tick()
	seconds := func(count, atOnce int) {
		for range count {
			var ends []func()
			for range atOnce {
				ends = append(ends, w.arrive())
			}
			w.pass(time.Second)
			for _, end := range ends {
				end()
			}
			n.Tick()
		}
	}
	expect := func(what string, want float64) {
		t.Helper()
		if got, _ := o.ask(t); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	seconds(60, 4)
	expect("a minute of 4 at a time", 4)
	seconds(6, 12)
	expect("6 s of 12 at a time, which count more", 12)
	seconds(54, 0)
	expect("of the last minute 6 s of 12", 1.2)
	seconds(6, 0)
	expect("a minute of nothing", 0)
}

// TestTargetChanges: a reload that changes what pods can carry reaches KEDA without its asking.
func TestTargetChanges(t *testing.T) {
	w := newWorld()
	n := w.serve(t, functions(16), "127.0.0.1:0", nil)
	o := operate(t, n.address, nil, nil)
	specs := o.PushScaler.(interface {
		MetricSpecChan() <-chan []v2.MetricSpec
	}).MetricSpecChan()
	for _, concurrency := range []int{16, 50} {
		n.Follow(functions(concurrency))
		n.Follow(functions(concurrency)) // which changes nothing
		select {
		case s := <-specs:
			if got, want := s[0].External.Target.AverageValue.MilliValue(), int64(700*concurrency); got != want {
				t.Errorf("concurrency %d: a target of %d thousandths, want %d", concurrency, got, want)
			}
		case <-time.After(within):
			t.Fatalf("concurrency %d: no target was sent", concurrency)
		}
	}
}

// TestServerComesBack: KEDA is told of what waits when it has connected to the next process.
func TestServerComesBack(t *testing.T) {
	w := newWorld()
	n := w.serve(t, functions(16), "127.0.0.1:0", nil)
	o := operate(t, n.address, nil, nil)
	w.awaitLook(t, 1)
	n.stop()
	w.arrive()
	w.serve(t, functions(16), n.address, nil) // which nobody activates: the message came before
	o.expectPush(t, "a message that came before KEDA was back")
}

// TestUnknownFunction: whoever asks for a function that there is not gets an error, and its stream waits for it.
func TestUnknownFunction(t *testing.T) {
	w := newWorld()
	w.arrive()
	n := w.serve(t, &config.Config{}, "127.0.0.1:0", nil)
	o := operate(t, n.address, nil, nil)
	if _, active, err := o.GetMetricsAndActivity(t.Context(), o.metric); err == nil || active {
		t.Errorf("active %v, error %v", active, err)
	}
	other := functions(16)
	other.Functions[0].Discover.Service = config.Service{Name: "temp", Namespace: "lab"}
	n.Follow(other)
	if _, _, err := o.GetMetricsAndActivity(t.Context(), o.metric); err == nil {
		t.Error("a function of another namespace is told of")
	}
	select {
	case <-o.pushed:
		t.Error("a function of another namespace was pushed")
	default:
	}
	n.Follow(functions(16))
	o.expectPush(t, "the function is there now")
}

// TestTLS: with an authority for clients only those with a certificate of its are told of anything.
func TestTLS(t *testing.T) {
	authority := certs.New(t)
	server, client := authority.Issue("eproxy", []byte{127, 0, 0, 1}), authority.Issue("keda")
	tls, err := transport.Server(&config.TLS{Cert: server.Cert, Key: server.Key, ClientCA: authority.CA}, []string{"h2"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	w.arrive()
	n := w.serve(t, functions(16), "127.0.0.1:0", func(o *keda.Options) { o.TLS = tls })
	read := func(file string) string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	known := map[string]string{"caCert": read(authority.CA), "tlsClientCert": read(client.Cert), "tlsClientKey": read(client.Key)}
	o := operate(t, n.address, map[string]string{"enableTLS": "true"}, known)
	o.expectPush(t, "with a certificate")
	unknown := map[string]string{"caCert": known["caCert"]}
	for what, c := range map[string]struct{ metadata, auth map[string]string }{
		"no certificate": {map[string]string{"enableTLS": "true"}, unknown}, "no TLS": {nil, nil},
	} {
		o := operate(t, n.address, c.metadata, c.auth)
		if _, _, err := o.GetMetricsAndActivity(t.Context(), o.metric); err == nil {
			t.Errorf("%s: it was told", what)
		}
	}
}
