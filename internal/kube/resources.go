package kube

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"eproxy/internal/config"
	"eproxy/internal/endpoints"
)

// ResourceWatcher follows the MQTTRoutes and MQTTFunctions of the namespaces that the
// configuration names.
type ResourceWatcher struct {
	cluster *Cluster
	changed chan struct{}
	stop    context.CancelFunc
	wg      sync.WaitGroup
	all     []*collection
	status  *statusWriter
}

// settle is how long a start waits for resources, and together how long changes wait
// for more of them: a manifest brings many at once.
const (
	settle  = 2 * time.Second
	collect = 50 * time.Millisecond
)

// WatchResources begins to follow resources, if the configuration names a namespace; Close
// ends it.
func (c *Cluster) WatchResources(cfg *config.Config) *ResourceWatcher {
	ctx, stop := context.WithCancel(context.Background())
	w := &ResourceWatcher{cluster: c, changed: make(chan struct{}, 1), stop: stop}
	w.status = newStatusWriter(c)
	for _, s := range cfg.Kubernetes.Routes {
		for _, what := range []what{{resource: "mqttroutes", namespace: s.Namespace, object: &MQTTRoute{}}, {resource: "mqttfunctions", namespace: s.Namespace, object: &MQTTFunction{}}} {
			l := newCollection(c, what, w.change, w.status.seen)
			w.all = append(w.all, l)
			w.wg.Go(func() { l.run(ctx) })
		}
	}
	if len(w.all) > 0 {
		w.wg.Go(func() { w.status.run(ctx) })
	}
	return w
}

// change says that there is something to look at, soon.
func (w *ResourceWatcher) change() {
	time.AfterFunc(collect, func() {
		select {
		case w.changed <- struct{}{}:
		default: // it will be looked at
		}
	})
}

// Changed is sent to when Apply may give another result.
func (w *ResourceWatcher) Changed() <-chan struct{} { return w.changed }

// Settle waits until all resources are known, or cannot be, for some seconds at most.
func (w *ResourceWatcher) Settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	for _, l := range w.all {
		select {
		case <-l.answered:
		case <-ctx.Done():
			return
		}
	}
}

// Apply is a configuration file with what resources ask for. What has become of each is
// written to its status. A nil watcher has no resources.
func (w *ResourceWatcher) Apply(file *config.Config) *config.Config {
	if w == nil || len(w.all) == 0 {
		return file
	}
	var routes []*MQTTRoute
	var functions []*MQTTFunction
	for _, l := range w.all {
		for _, o := range l.list() {
			switch o := o.(type) {
			case *MQTTRoute:
				routes = append(routes, o)
			case *MQTTFunction:
				functions = append(functions, o)
			}
		}
	}
	cfg, verdicts := mergeResources(file, routes, functions)
	wanted, kind := make(map[types.UID]wantedStatus), conditionType(w.cluster.cfg.Name)
	for _, r := range routes {
		want(wanted, "MQTTRoute", &r.ObjectMeta, r.Status, verdicts[r.UID].condition(kind, r.Generation))
	}
	for _, f := range functions {
		want(wanted, "MQTTFunction", &f.ObjectMeta, f.Status, verdicts[f.UID].condition(kind, f.Generation))
	}
	w.status.set(wanted, verdicts)
	return cfg
}

// Close ends following.
func (w *ResourceWatcher) Close() {
	w.stop()
	w.wg.Wait()
}

// collection is the resources of one kind in one namespace. It is the store that
// client-go's reflector fills.
type collection struct {
	asking // its mutex is that of objects
	what
	changed  func()
	seen     func(types.UID, Status) bool // a status that has changed, and nothing else; whether to look again
	answered chan struct{}                // closed when all are known, or it is known that they cannot be
	once     sync.Once
	objects  map[string]runtime.Object // by name
}

func newCollection(c *Cluster, w what, changed func(), seen func(types.UID, Status) bool) *collection {
	l := &collection{what: w, changed: changed, seen: seen, answered: make(chan struct{}), objects: make(map[string]runtime.Object)}
	log := c.log.With(slog.String("resource", w.resource+"."+Resources.Group), slog.String("namespace", w.namespace))
	said := false
	l.asking = asking{cluster: c, failed: func(err error) {
		l.once.Do(func() { close(l.answered) })
		if !errors.Is(err, endpoints.ErrLogged) {
			said = true
			log.Warn("resources of Kubernetes cannot be read, those that were read last stay", "error", oneLine(err))
		}
	}, mended: func() {
		if said {
			said = false
			log.Info("resources of Kubernetes can be read again")
		}
	}}
	return l
}

func (l *collection) run(ctx context.Context) {
	if client, _ := l.cluster.clientFor(ctx, Resources, func(err error) { l.went(ctx, err) }); client != nil {
		l.follow(ctx, client, l.what, l)
	}
}

func (l *collection) list() []runtime.Object {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []runtime.Object
	for _, o := range l.objects {
		out = append(out, o)
	}
	return out
}

// parts are what both kinds have.
func parts(obj any) (*metav1.ObjectMeta, Status) {
	switch o := obj.(type) {
	case *MQTTRoute:
		return &o.ObjectMeta, o.Status
	case *MQTTFunction:
		return &o.ObjectMeta, o.Status
	}
	return nil, Status{}
}

// keep is an object without what is not needed, and its name.
func keep(obj any) (runtime.Object, string, error) {
	m, _ := parts(obj)
	if m == nil {
		return nil, "", errors.New("neither an MQTTRoute nor an MQTTFunction")
	}
	*m = metav1.ObjectMeta{Name: m.Name, Namespace: m.Namespace, UID: m.UID, Generation: m.Generation, CreationTimestamp: m.CreationTimestamp}
	return obj.(runtime.Object), m.Name, nil
}

// Add is the reflector's: an object is new, or has changed.
func (l *collection) Add(obj any) error {
	o, name, err := keep(obj)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	before, _ := parts(l.objects[name])
	l.objects[name] = o
	now, status := parts(o)
	if before != nil && before.UID == now.UID && before.Generation == now.Generation {
		if l.seen(now.UID, status) {
			l.changed()
		}
		return nil
	}
	l.changed()
	return nil
}

// Update is the reflector's: an object has changed.
func (l *collection) Update(obj any) error { return l.Add(obj) }

// Delete is the reflector's: an object is gone.
func (l *collection) Delete(obj any) error {
	_, name, err := keep(obj)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.objects, name)
	l.changed()
	return nil
}

// Replace is the reflector's: these are all objects.
func (l *collection) Replace(list []any, _ string) error {
	objects := make(map[string]runtime.Object)
	for _, obj := range list {
		o, name, err := keep(obj)
		if err != nil {
			return err
		}
		objects[name] = o
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.objects = objects
	l.once.Do(func() { close(l.answered) })
	l.changed()
	return nil
}

// Resync is the reflector's: nothing is to be done again.
func (l *collection) Resync() error { return nil }
