package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"eproxy/internal/config"
	"eproxy/internal/endpoints"
)

// Knative is the group and version of Knative's own Services.
var Knative = schema.GroupVersion{Group: "serving.knative.dev", Version: "v1"}

// The labels that the EndpointSlices of a revision's private Service have, for their controller
// copies those of the Service: its name would not do, for a long one is shortened. The
// public Service may name Knative's activator instead of pods.
const (
	revisionLabel    = "serving.knative.dev/revision"
	serviceTypeLabel = "networking.internal.knative.dev/serviceType"
	privateService   = "Private"
)

// knativeService is what is needed of a Service of Knative.
type knativeService struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Status            struct {
		Traffic []traffic `json:"traffic,omitempty"`
	} `json:"status"`
}

// traffic is a share of the traffic.
type traffic struct {
	RevisionName string `json:"revisionName,omitempty"`
	Percent      *int64 `json:"percent,omitempty"`
}

type knativeServiceList struct{ list[knativeService] }

// DeepCopyObject is what the machinery of client-go asks of every type.
func (s *knativeService) DeepCopyObject() runtime.Object {
	out := *s
	out.ObjectMeta = *s.ObjectMeta.DeepCopy()
	out.Status.Traffic = slices.Clone(s.Status.Traffic) // nobody changes a percentage
	return &out
}

// DeepCopyObject is what the machinery of client-go asks of every type.
func (l *knativeServiceList) DeepCopyObject() runtime.Object {
	out := *l
	out.Items = make([]knativeService, len(l.Items))
	for i := range l.Items {
		out.Items[i] = *l.Items[i].DeepCopyObject().(*knativeService)
	}
	return &out
}

// revisions are those that get a share of the traffic.
func (s *knativeService) revisions() []string {
	var out []string
	for _, t := range s.Status.Traffic {
		if t.RevisionName != "" && t.Percent != nil && *t.Percent > 0 {
			out = append(out, t.RevisionName)
		}
	}
	return out
}

// knative is a Service of Knative that is followed. It is the store that client-go's reflector fills.
type knative struct {
	config.Service
	asking // its mutex is that of what follows
	ctx    context.Context
	found  func([]endpoints.Pod)
	pods   func(ctx context.Context, revision string, found func([]endpoints.Pod)) // calls found with a revision's pods until ctx ends

	synced    bool                 // it is known whether the Service exists, and what revisions it has
	revisions map[string]*revision // whose pods count, by name
	why       string               // there are none
}

// revision is a revision whose pods are followed.
type revision struct {
	stop   context.CancelFunc
	wanted bool // it gets a share of the traffic
	known  bool // pods are those that it has
	pods   []endpoints.Pod
}

// followKnative is Follow of a Service of Knative: its pods are those of all revisions that get a
// share of its traffic. How large a share is not kept to: messages go to whichever pod is free.
func (c *Cluster) followKnative(ctx context.Context, s config.Service, found func([]endpoints.Pod), failed func(error)) {
	client, namespace := c.clientFor(ctx, Knative, failed)
	if client == nil {
		return
	}
	if s.Namespace == "" {
		s.Namespace = namespace
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k := &knative{Service: s, ctx: ctx, found: found, revisions: make(map[string]*revision)}
	k.pods = func(ctx context.Context, revision string, found func([]endpoints.Pod)) {
		s := config.Service{Name: revision, Namespace: s.Namespace, Port: s.Port}
		c.followSlices(ctx, s, labels.Set{revisionLabel: revision, serviceTypeLabel: privateService}, found, failed)
	}
	k.asking = asking{cluster: c, mended: k.tell, failed: func(err error) { failed(fmt.Errorf("ask for Services of Knative: %w", err)) }}
	k.follow(ctx, client, what{resource: "services", namespace: s.Namespace, name: s.Name, object: &knativeService{}}, k)
}

// has notes the revisions that the Service has now; why says why there are none. k.mu is held.
func (k *knative) has(names []string, why string) {
	k.synced = true
	for _, r := range k.revisions {
		r.wanted = false
	}
	for _, name := range names {
		r := k.revisions[name]
		if r == nil {
			r = k.begin(name)
			k.revisions[name] = r
		}
		r.wanted = true
	}
	if why != k.why {
		log := k.cluster.log.With(slog.String("service", k.String()))
		if k.why = why; why != "" {
			log.Warn("a Service has no pods for messages", "reason", why)
		} else {
			log.Info("a Service may have pods again", "revisions", names)
		}
	}
	k.tell()
}

// begin follows the pods of a revision.
func (k *knative) begin(name string) *revision {
	ctx, stop := context.WithCancel(k.ctx)
	r := &revision{stop: stop}
	go k.pods(ctx, name, func(pods []endpoints.Pod) {
		k.mu.Lock()
		defer k.mu.Unlock()
		if ctx.Err() == nil {
			r.pods, r.known = pods, true
			k.tell()
		}
	})
	return r
}

// tell says which pods there are. The pods of a revision that gets no share any more count until
// those of all that get one are known. k.mu is held.
func (k *knative) tell() {
	known := k.synced
	for _, r := range k.revisions {
		known = known && (r.known || !r.wanted)
	}
	if !known || k.broken != "" {
		return
	}
	pods := []endpoints.Pod{}
	for name, r := range k.revisions {
		if !r.wanted {
			r.stop()
			delete(k.revisions, name)
			continue
		}
		pods = append(pods, r.pods...)
	}
	k.found(pods)
}

var errNoKnativeService = errors.New("not a Service of Knative")

// Add is the reflector's: the Service is there.
func (k *knative) Add(obj any) error { return k.Replace([]any{obj}, "") }

// Update is the reflector's: the Service has changed.
func (k *knative) Update(obj any) error { return k.Replace([]any{obj}, "") }

// Delete is the reflector's: the Service is gone.
func (k *knative) Delete(any) error { return k.Replace(nil, "") }

// Replace is the reflector's: this is the Service, if there is one.
func (k *knative) Replace(list []any, _ string) error {
	var names []string
	why := "there is no Service of Knative of that name"
	for _, obj := range list {
		s, ok := obj.(*knativeService)
		if !ok {
			return errNoKnativeService
		}
		if names, why = s.revisions(), ""; len(names) == 0 {
			why = "none of its revisions gets traffic: is it ready?"
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.has(names, why)
	return nil
}

// Resync is the reflector's: nothing is to be done again.
func (k *knative) Resync() error { return nil }
