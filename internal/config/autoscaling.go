package config

import (
	"maps"
	"net/url"
	"strings"
)

// Autoscaling is who scales a function.
type Autoscaling struct {
	Knative Knative
}

// Knative says what Knative's autoscaler is told of a function.
type Knative struct {
	Port                uint16 // that its pods answer scrapes at; 0: they do not
	Namespace, Revision string // that its load is pushed as; empty: it is not
}

// Scaler is who is told of the load of functions.
type Scaler struct {
	Knative string // ws or wss URL of Knative's autoscaler; empty: none
	KEDA    KEDA
}

// KEDA says where KEDA's operators ask.
type KEDA struct {
	Listen string // host:port; empty: nowhere
	TLS    *TLS   // nil: none
}

// The field that says of a request that the autoscaler is told of it by who sends it.
const (
	proxyHeader = "K-Proxy-Request"
	proxyValue  = "activator"
)

// scaler reads who is told.
func (b *builder) scaler(r *rawScaler) {
	b.keda(r.KEDA)
	b.cfg.Scaler.Knative = r.Knative
	if r.Knative == "" {
		return
	}
	u, err := url.Parse(r.Knative)
	if err != nil || (u.Scheme != "ws" && u.Scheme != "wss") || u.Host == "" || u.User != nil {
		b.fail("$.scaler.knative", "scaler.knative %q: must be the URL of a WebSocket, as ws://autoscaler.knative-serving.svc.cluster.local:8080", r.Knative)
	}
}

// keda reads where KEDA asks.
func (b *builder) keda(r *rawKEDA) {
	if r == nil {
		return
	}
	if r.Listen == "" {
		b.fail("$.scaler.keda", "scaler.keda: needs listen, where KEDA's operators connect to, as 10.0.0.5:9091")
	} else {
		b.address("$.scaler.keda.listen", r.Listen)
	}
	b.cfg.Scaler.KEDA = KEDA{Listen: r.Listen, TLS: b.tls("$.scaler.keda.tls", r.TLS)}
	if r.TLS != nil && r.TLS.Username != "" {
		b.fail("$.scaler.keda.tls.username", "scaler.keda.tls: username: KEDA has no user name here")
	}
}

// autoscaling reads who scales a function.
func (b *builder) autoscaling(path string, f *Function, r *rawAutoscaling) {
	k := r.Knative
	if k == nil {
		return
	}
	path += ".knative"
	if k.Port == nil && k.Revision == "" {
		b.fail(path, "function %q: autoscaling.knative: needs port, where its pods answer scrapes, or revision, as which its load is pushed", f.Name)
	}
	if k.Port != nil {
		f.Autoscaling.Knative.Port = uint16(b.number(path+".port", k.Port, 0, 1, 65535))
		if !b.cfg.Monitoring {
			b.fail(path+".port", "function %q: autoscaling.knative.port: needs monitoring: true, by which it is known what the pods do", f.Name)
		}
	}
	if k.Revision != "" {
		b.revision(path+".revision", f, k.Revision)
	}
}

// revision reads as what a function's load is pushed. Its requests say so: whoever sees them at the pod is not to count
// them again.
func (b *builder) revision(path string, f *Function, s string) {
	namespace, name, ok := strings.Cut(s, "/")
	if !ok || !label.MatchString(namespace) || !label.MatchString(name) {
		b.fail(path, "function %q: autoscaling.knative.revision %q: must be namespace/name, as edge/temp-00001", f.Name, s)
	}
	if b.cfg.Scaler.Knative == "" {
		b.fail(path, "function %q: autoscaling.knative.revision: needs scaler.knative, where its load is pushed to", f.Name)
	}
	f.Autoscaling.Knative.Namespace, f.Autoscaling.Knative.Revision = namespace, name
	for header := range f.Headers {
		if strings.EqualFold(header, proxyHeader) {
			b.fail(path, "function %q: header %q is set by autoscaling.knative.revision", f.Name, header)
		}
	}
	f.Headers = maps.Clone(f.Headers)
	if f.Headers == nil {
		f.Headers = make(map[string]string)
	}
	f.Headers[proxyHeader] = proxyValue
}
