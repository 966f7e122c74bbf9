package config

import (
	"maps"
	"net/url"
	"strings"
)

// Autoscaling is who scales a function.
type Autoscaling struct {
	Knative    Knative
	Kubernetes Workload
}

// Workload is what the loader scales itself, by the scale subresource of Kubernetes.
type Workload struct {
	Resource  string // deployments or statefulsets, of apps/v1
	Name      string // empty: it scales nothing
	Namespace string // empty: where the credentials are of
	Min, Max  int    // pods
}

// MaxPods is how many pods a Workload may have.
const MaxPods = 1000

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
	if r.Kubernetes != nil {
		b.workload(path+".kubernetes", f, r.Kubernetes)
	}
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

// workload reads what is scaled, whose pods a Service names.
func (b *builder) workload(path string, f *Function, r *rawWorkload) {
	w := &f.Autoscaling.Kubernetes
	*w = Workload{Resource: "deployments", Name: r.Deployment, Namespace: or(r.Namespace, f.Discover.Service.Namespace)}
	switch {
	case r.StatefulSet != "" && r.Deployment != "":
		b.fail(path, "function %q: autoscaling.kubernetes: deployment and statefulset: one of them is too many", f.Name)
	case r.StatefulSet != "":
		w.Resource, w.Name = "statefulsets", r.StatefulSet
	case r.Deployment == "":
		b.fail(path, "function %q: autoscaling.kubernetes: needs deployment or statefulset, whose pods are to be more or fewer", f.Name)
	}
	if w.Name != "" && !subdomain(w.Name) {
		b.fail(path, "function %q: autoscaling.kubernetes: %q: must be a name as Kubernetes has them: a-z, 0-9, - and ., up to 253 characters", f.Name, w.Name)
	}
	if r.Namespace != "" && !label.MatchString(r.Namespace) {
		b.fail(path+".namespace", "function %q: autoscaling.kubernetes.namespace %q: %s", f.Name, r.Namespace, labelRule)
	}
	w.Min = b.number(path+".min", r.Min, 0, 0, MaxPods)
	if w.Max = b.number(path+".max", r.Max, max(1, w.Min), 1, MaxPods); w.Min > w.Max {
		b.fail(path, "function %q: autoscaling.kubernetes: min %d is more than max %d", f.Name, w.Min, w.Max)
	}
	if f.Discover.Service.Name == "" || f.Discover.Service.Knative {
		b.fail(path, "function %q: autoscaling.kubernetes: needs kubernetes.service, the Service that names its pods", f.Name)
	}
}

// subdomain says whether a name is one of an object of Kubernetes: labels with dots between (RFC 1123 section 2.1).
func subdomain(name string) bool {
	if len(name) > 253 {
		return false
	}
	for part := range strings.SplitSeq(name, ".") {
		if !label.MatchString(part) {
			return false
		}
	}
	return true
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
