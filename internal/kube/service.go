package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"eproxy/internal/config"
	"eproxy/internal/endpoints"
)

// credentialsRetry is how long after a failure the credentials are read again.
const credentialsRetry = 2 * time.Second

// Follow calls found with the pods of a Service, at once and whenever they change, and
// failed when that cannot be asked, until ctx ends. What keeps a Service from having
// pods (there is none of that name, it has no such port) is logged when it
// begins and when it ends.
func (c *Cluster) Follow(ctx context.Context, s config.Service, found func([]endpoints.Pod), failed func(error)) {
	if s.Knative {
		c.followKnative(ctx, s, found, failed)
		return
	}
	c.followSlices(ctx, s, labels.Set{discovery.LabelServiceName: s.Name}, found, failed)
}

// followSlices is Follow of the EndpointSlices that have labels.
func (c *Cluster) followSlices(ctx context.Context, s config.Service, selector labels.Set, found func([]endpoints.Pod), failed func(error)) {
	client, namespace := c.clientFor(ctx, discovery.SchemeGroupVersion, failed)
	if client == nil {
		return
	}
	if s.Namespace == "" {
		s.Namespace = namespace
	}
	f := &service{Service: s, found: found, slices: make(map[string]slice)}
	f.asking = asking{cluster: c, mended: f.mended, failed: func(err error) { failed(fmt.Errorf("ask for EndpointSlices: %w", err)) }}
	f.follow(ctx, client, what{resource: "endpointslices", namespace: s.Namespace, labels: selector.String(), object: &discovery.EndpointSlice{}}, f)
}

// clientFor waits for credentials, and is nil when ctx ends before. Whatever is wrong with them is
// told once.
func (c *Cluster) clientFor(ctx context.Context, gv schema.GroupVersion, failed func(error)) (client rest.Interface, namespace string) {
	var told string
	for {
		client, namespace, err := c.client(gv)
		if err == nil {
			return client, namespace
		}
		if told != err.Error() { // it is asked often, and said once
			told = err.Error()
			failed(err)
		}
		select {
		case <-ctx.Done():
			return nil, ""
		case <-time.After(credentialsRetry):
		}
	}
}

// service is a Service that is followed. It is the store that client-go's reflector
// fills: of each EndpointSlice it keeps what trim does.
type service struct {
	config.Service
	asking // its mutex is that of the following
	found  func([]endpoints.Pod)
	synced bool             // slices are those of the Service, all of them
	slices map[string]slice // by name
	why    string           // there are no pods
}

// mended is called when the API server can be asked again; f.mu is held.
func (f *service) mended() {
	if f.synced {
		f.tell()
	}
}

// tell says which pods there are; f.mu is held.
func (f *service) tell() {
	pods, why := merge(f.slices, f.Port)
	if why != f.why {
		log := f.cluster.log.With(slog.String("service", f.String()))
		if f.why = why; why != "" {
			log.Warn("a Service has no pods for messages", "reason", why)
		} else {
			log.Info("a Service may have pods again", "pods", len(pods))
		}
	}
	f.found(pods)
}

var errNoSlice = errors.New("not an EndpointSlice")

func (f *service) put(obj any) error {
	s, ok := obj.(*discovery.EndpointSlice)
	if !ok {
		return errNoSlice
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.slices[s.Name] = trim(s, f.cluster.node)
	f.tell()
	return nil
}

// Add is the reflector's: an EndpointSlice is new.
func (f *service) Add(obj any) error { return f.put(obj) }

// Update is the reflector's: an EndpointSlice has changed.
func (f *service) Update(obj any) error { return f.put(obj) }

// Delete is the reflector's: an EndpointSlice is gone.
func (f *service) Delete(obj any) error {
	s, ok := obj.(*discovery.EndpointSlice)
	if !ok {
		return errNoSlice
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.slices, s.Name)
	f.tell()
	return nil
}

// Replace is the reflector's: these are all EndpointSlices.
func (f *service) Replace(list []any, _ string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.slices)
	for _, obj := range list {
		s, ok := obj.(*discovery.EndpointSlice)
		if !ok {
			return errNoSlice
		}
		f.slices[s.Name] = trim(s, f.cluster.node)
	}
	f.synced = true
	if f.broken == "" { // else the watch is still to come
		f.tell()
	}
	return nil
}

// Resync is the reflector's: nothing is to be done again.
func (f *service) Resync() error { return nil }

// Transformer drops from an EndpointSlice what the reflector would keep of it while it lists.
func (f *service) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		if s, ok := obj.(*discovery.EndpointSlice); ok {
			s.ObjectMeta = metav1.ObjectMeta{Name: s.Name, Namespace: s.Namespace, ResourceVersion: s.ResourceVersion}
		}
		return obj, nil
	}
}
