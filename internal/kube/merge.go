package kube

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"eproxy/internal/config"
)

// Reasons of the condition Accepted.
const (
	accepted         = "Accepted"
	invalid          = "Invalid"          // of what it asks for, something is no value that the configuration takes
	conflict         = "Conflict"         // the file, or an older one, has the topic filter or the name
	notAllowed       = "NotAllowed"       // the topic filter is beyond what its namespace may have
	functionNotFound = "FunctionNotFound" // there is no MQTTFunction of that name, or it is not accepted
	tooMany          = "TooMany"          // limits.routes are there
)

// verdict is what has become of a resource.
type verdict struct{ reason, message string }

func (v verdict) ok() bool { return v.reason == accepted }

// merging is a configuration file and the resources that are merged with it.
type merging struct {
	file      *config.Config
	functions map[types.NamespacedName]*config.Function // of MQTTFunctions that are accepted
	verdicts  map[types.UID]verdict
	used      map[string]*config.Function // that routes go to, by name
	filters   map[string]string           // whose each topic filter is
	routes    []*config.Route
}

// mergeResources is a configuration with the routes and functions that resources ask for, and
// what has become of each of these. Of two that want the same, the file wins, then the one that is older;
// the outcome depends on nothing else, so that all nodes have the same.
func mergeResources(file *config.Config, routes []*MQTTRoute, functions []*MQTTFunction) (*config.Config, map[types.UID]verdict) {
	m := &merging{file: file, functions: make(map[types.NamespacedName]*config.Function), verdicts: make(map[types.UID]verdict),
		used: make(map[string]*config.Function), filters: make(map[string]string)}
	for _, r := range file.Routes {
		m.filters[r.Filter] = "the configuration file"
	}
	for _, f := range functions {
		m.verdicts[f.UID] = m.function(f)
	}
	routes = slices.Clone(routes)
	slices.SortFunc(routes, func(a, b *MQTTRoute) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, r := range routes {
		m.verdicts[r.UID] = m.route(r)
	}
	var more []*config.Function
	for _, f := range m.used {
		more = append(more, f)
	}
	slices.SortFunc(more, func(a, b *config.Function) int { return cmp.Compare(a.Name, b.Name) })
	return file.With(more, m.routes), m.verdicts
}

// function checks an MQTTFunction.
func (m *merging) function(f *MQTTFunction) verdict {
	name := f.Namespace + "." + f.Name
	if strings.Contains(f.Name, ".") {
		return verdict{invalid, "its name must have no dot"}
	}
	if m.file.Function(name) != nil {
		return verdict{conflict, fmt.Sprintf("the configuration file has a function %q", name)}
	}
	if why := wrongGroup(f.Spec.Service.Group); why != "" {
		return verdict{invalid, "service." + why}
	}
	keys := functionKeys(f)
	keys["name"] = name
	cfg, err := parse(keys, nil)
	if err != nil {
		return verdict{invalid, err.Error()}
	}
	m.functions[types.NamespacedName{Namespace: f.Namespace, Name: f.Name}] = cfg.Functions[0]
	return verdict{accepted, fmt.Sprintf("as the function %q", name)}
}

// functionKeys are an MQTTFunction's, all but its name, as the configuration file has them.
func functionKeys(f *MQTTFunction) map[string]any {
	spec := &f.Spec
	keys := map[string]any{"url": cmp.Or(spec.URL, serviceURL(f.Namespace, spec.Service.Name)), "kubernetes": serviceKeys(f.Namespace, spec.Service)}
	set(keys, "concurrency", spec.Concurrency)
	set(keys, "pipeline", spec.Pipeline)
	set(keys, "topology", spec.Topology)
	set(keys, "timeout", spec.Timeout)
	set(keys, "deadline", spec.Deadline)
	set(keys, "content_type", spec.ContentType)
	set(keys, "paused", spec.Paused)
	if len(spec.Headers) > 0 {
		keys["headers"] = spec.Headers
	}
	if r := spec.Retry; r != nil {
		retry := make(map[string]any)
		set(retry, "attempts", r.Attempts)
		set(retry, "backoff", r.Backoff)
		set(retry, "max_backoff", r.MaxBackoff)
		if r.Final != nil {
			retry["final"] = *r.Final
		}
		keys["retry"] = retry
	}
	if c := spec.CloudEvents; c != nil {
		keys["cloudevents"] = map[string]any{"type": c.Type, "source": c.Source, "from_publisher": c.FromPublisher, "mode": c.Mode}
	}
	if b := spec.Batch; b != nil {
		batch := make(map[string]any)
		set(batch, "max_messages", b.MaxMessages)
		set(batch, "max_bytes", b.MaxBytes)
		set(batch, "linger", b.Linger)
		keys["batch"] = batch
	}
	if t := spec.Tracing; t != nil {
		tracing := make(map[string]any) // all, if it says no more
		if t.Sample != nil {
			tracing["sample"] = *t.Sample
		}
		keys["tracing"] = tracing
	}
	return keys
}

// route checks an MQTTRoute, and takes it up.
func (m *merging) route(r *MQTTRoute) verdict {
	fn, v := m.target(r)
	if fn == nil {
		return v
	}
	cfg, err := parse(map[string]any{"name": "f", "url": "http://f/", "pods": []string{"192.0.2.1:80"}},
		map[string]any{"topic": r.Spec.Topic, "function": "f", "also_broker": r.Spec.AlsoBroker, "ordered": r.Spec.Ordered})
	if err != nil {
		return verdict{invalid, err.Error()}
	}
	out := cfg.Routes[0]
	out.Functions = []string{fn.Name}
	at := slices.IndexFunc(m.file.Kubernetes.Routes, func(s config.RouteSource) bool { return s.Namespace == r.Namespace })
	if at < 0 || !m.file.Kubernetes.Routes[at].Allows(out.Filter) {
		return verdict{notAllowed, fmt.Sprintf("the namespace may have no route for %q", out.Filter)}
	}
	if owner := m.filters[out.Filter]; owner != "" {
		return verdict{conflict, fmt.Sprintf("%s has a route for %q", owner, out.Filter)}
	}
	if len(m.file.Routes)+len(m.routes) >= m.file.Limits.Routes {
		return verdict{tooMany, fmt.Sprintf("there are %d routes, and limits.routes allows no more", m.file.Limits.Routes)}
	}
	m.filters[out.Filter] = fmt.Sprintf("the MQTTRoute %s/%s, which is older,", r.Namespace, r.Name)
	m.routes = append(m.routes, out)
	m.used[fn.Name] = fn
	return verdict{accepted, fmt.Sprintf("to the function %q", fn.Name)}
}

// target is the function that a route names; nil: there is none, for a reason.
func (m *merging) target(r *MQTTRoute) (*config.Function, verdict) {
	ref := r.Spec.FunctionRef
	switch ref.Kind {
	case "", "Service":
	case "MQTTFunction":
		fn := m.functions[types.NamespacedName{Namespace: r.Namespace, Name: ref.Name}]
		if fn == nil {
			return nil, verdict{functionNotFound, fmt.Sprintf("there is no MQTTFunction %s/%s that is accepted", r.Namespace, ref.Name)}
		}
		return fn, verdict{}
	default:
		return nil, verdict{invalid, fmt.Sprintf("functionRef.kind %q: must be Service or MQTTFunction", ref.Kind)}
	}
	if why := wrongGroup(ref.Group); why != "" {
		return nil, verdict{invalid, "functionRef." + why}
	}
	// no MQTTFunction that is accepted has a dot in its name
	kind := "svc"
	if ref.Group != "" {
		kind = "ksvc"
	}
	name := strings.Join([]string{r.Namespace, ref.Name, kind}, ".")
	if ref.Port != nil {
		name += "." + ref.Port.String()
	}
	if m.file.Function(name) != nil {
		return nil, verdict{conflict, fmt.Sprintf("the configuration file has a function %q", name)}
	}
	if fn := m.used[name]; fn != nil {
		return fn, verdict{}
	}
	cfg, err := parse(map[string]any{"name": name, "url": serviceURL(r.Namespace, ref.Name), "kubernetes": serviceKeys(r.Namespace, ServiceRef{ref.Group, ref.Name, ref.Port})}, nil)
	if err != nil {
		return nil, verdict{invalid, err.Error()}
	}
	return cfg.Functions[0], verdict{}
}

func serviceURL(namespace, name string) string { return "http://" + name + "." + namespace + ".svc/" }

// serviceKeys are a Service as the configuration names it.
func serviceKeys(namespace string, s ServiceRef) map[string]any {
	key := "service"
	if s.Group != "" {
		key = "knative"
	}
	out := map[string]any{key: s.Name, "namespace": namespace}
	if s.Port != nil {
		out["port"] = s.Port.String()
	}
	return out
}

// wrongGroup says what is wrong with the group of a Service; empty: nothing.
func wrongGroup(group string) string {
	if group == "" || group == Knative.Group {
		return ""
	}
	return fmt.Sprintf("group %q: must be empty or %s", group, Knative.Group)
}

// set has a key say a value, unless that is to be the default.
func set[T comparable](keys map[string]any, key string, value T) {
	var none T
	if value != none {
		keys[key] = value
	}
}

// parse reads a function, and a route if there is one, as the configuration file does:
// what holds for the one holds for the other.
func parse(function, route map[string]any) (*config.Config, error) {
	doc := map[string]any{"functions": []any{function}}
	if route != nil {
		doc["routes"] = []any{route}
	}
	text, err := json.Marshal(doc) // JSON is YAML
	if err != nil {
		return nil, err
	}
	cfg, err := config.Parse("resource", text)
	var one *config.Error
	var several config.Errors
	switch {
	case errors.As(err, &one):
		return nil, errors.New(one.Message)
	case errors.As(err, &several):
		return nil, fmt.Errorf("%s (and %d more)", several[0].Message, len(several)-1)
	}
	return cfg, err
}

// condition is a verdict as a condition of a type, of a generation of the resource.
func (v verdict) condition(kind string, generation int64) metav1.Condition {
	status := metav1.ConditionFalse
	if v.ok() {
		status = metav1.ConditionTrue
	}
	return metav1.Condition{Type: kind, Status: status, Reason: v.reason, Message: v.message, ObservedGeneration: generation}
}
