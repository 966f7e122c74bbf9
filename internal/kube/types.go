package kube

import (
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Resources is the group and version of eproxy's own resources, which
// deploy/chart/crds describes.
var Resources = schema.GroupVersion{Group: "eproxy.io", Version: "v1alpha1"}

// MQTTRoute sends the messages of a topic filter to a function.
type MQTTRoute struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec   RouteSpec `json:"spec"`
	Status Status    `json:"status"`
}

// RouteSpec is what an MQTTRoute asks for.
type RouteSpec struct {
	Topic       string      `json:"topic"`
	FunctionRef FunctionRef `json:"functionRef"`
	AlsoBroker  bool        `json:"alsoBroker,omitempty"`
	Ordered     bool        `json:"ordered,omitempty"`
}

// FunctionRef names a function in the same namespace: a Service, of Kubernetes or of Knative, for which
// defaults do, or an MQTTFunction.
type FunctionRef struct {
	Group string              `json:"group,omitempty"` // of a Service: none, or Knative's
	Kind  string              `json:"kind,omitempty"`  // Service, if empty
	Name  string              `json:"name"`
	Port  *intstr.IntOrString `json:"port,omitempty"` // of a Service
}

// MQTTFunction is a Service with more said of it than its name.
type MQTTFunction struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec   FunctionSpec `json:"spec"`
	Status Status       `json:"status"`
}

// FunctionSpec is what an MQTTFunction asks for. What is left out has the defaults of the
// configuration file.
type FunctionSpec struct {
	Service     ServiceRef        `json:"service"`
	URL         string            `json:"url,omitempty"` // http://NAME.NAMESPACE.svc/, if empty
	Concurrency int               `json:"concurrency,omitempty"`
	Pipeline    int               `json:"pipeline,omitempty"`
	Topology    string            `json:"topology,omitempty"`
	Timeout     string            `json:"timeout,omitempty"`
	Deadline    string            `json:"deadline,omitempty"`
	Retry       *RetrySpec        `json:"retry,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
	ContentType string            `json:"contentType,omitempty"`
	CloudEvents *CloudEventsSpec  `json:"cloudEvents,omitempty"`
	Batch       *BatchSpec        `json:"batch,omitempty"`
	Tracing     *TracingSpec      `json:"tracing,omitempty"`
	Paused      bool              `json:"paused,omitempty"`
}

// ServiceRef names a Service in the same namespace.
type ServiceRef struct {
	Group string              `json:"group,omitempty"` // none, or Knative's
	Name  string              `json:"name"`
	Port  *intstr.IntOrString `json:"port,omitempty"`
}

// RetrySpec says how often and how a message is tried.
type RetrySpec struct {
	Attempts   int    `json:"attempts,omitempty"`
	Backoff    string `json:"backoff,omitempty"`
	MaxBackoff string `json:"maxBackoff,omitempty"`
	Final      *[]int `json:"final,omitempty"`
}

// CloudEventsSpec is what the ce-* headers say.
type CloudEventsSpec struct {
	Type          string `json:"type,omitempty"`
	Source        string `json:"source,omitempty"`
	FromPublisher bool   `json:"fromPublisher,omitempty"`
	Mode          string `json:"mode,omitempty"`
}

// BatchSpec says how many messages go in one request.
type BatchSpec struct {
	MaxMessages int    `json:"maxMessages,omitempty"`
	MaxBytes    int    `json:"maxBytes,omitempty"`
	Linger      string `json:"linger,omitempty"`
}

// TracingSpec gives messages without a traceparent one.
type TracingSpec struct {
	Sample *float64 `json:"sample,omitempty"` // the part of them that is sampled; nil: all
}

// Status says what has become of a resource.
type Status struct {
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// list is a list of either.
type list[T any] struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []T `json:"items"`
}

type (
	routeList    struct{ list[MQTTRoute] }
	functionList struct{ list[MQTTFunction] }
)

// DeepCopyObject is what the machinery of client-go asks of every type.
func (r *MQTTRoute) DeepCopyObject() runtime.Object {
	out := *r
	out.ObjectMeta = *r.ObjectMeta.DeepCopy()
	out.Spec.FunctionRef.Port = clone(r.Spec.FunctionRef.Port)
	out.Status = r.Status.clone()
	return &out
}

// DeepCopyObject is what the machinery of client-go asks of every type.
func (f *MQTTFunction) DeepCopyObject() runtime.Object {
	out := *f
	out.ObjectMeta = *f.ObjectMeta.DeepCopy()
	out.Spec.Service.Port = clone(f.Spec.Service.Port)
	out.Spec.Headers = maps.Clone(f.Spec.Headers)
	out.Spec.Retry = clone(f.Spec.Retry)
	out.Spec.CloudEvents = clone(f.Spec.CloudEvents)
	out.Spec.Batch = clone(f.Spec.Batch)
	out.Spec.Tracing = clone(f.Spec.Tracing)
	out.Status = f.Status.clone()
	return &out
}

// DeepCopyObject is what the machinery of client-go asks of every type.
func (l *routeList) DeepCopyObject() runtime.Object {
	out := *l
	out.Items = make([]MQTTRoute, len(l.Items))
	for i := range l.Items {
		out.Items[i] = *l.Items[i].DeepCopyObject().(*MQTTRoute)
	}
	return &out
}

// DeepCopyObject is what the machinery of client-go asks of every type.
func (l *functionList) DeepCopyObject() runtime.Object {
	out := *l
	out.Items = make([]MQTTFunction, len(l.Items))
	for i := range l.Items {
		out.Items[i] = *l.Items[i].DeepCopyObject().(*MQTTFunction)
	}
	return &out
}

func (s Status) clone() Status { return Status{Conditions: slices.Clone(s.Conditions)} }

// clone is a copy of what p points to, not of what that points to.
func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	out := *p
	return &out
}
