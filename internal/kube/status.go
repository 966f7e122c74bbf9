package kube

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// wantedStatus is a condition that a resource does not have yet.
type wantedStatus struct {
	kind, namespace, name string
	condition             metav1.Condition
}

// want notes the condition of a resource, unless it has it.
func want(all map[types.UID]wantedStatus, kind string, m *metav1.ObjectMeta, s Status, c metav1.Condition) {
	if has(s, c) {
		return
	}
	c.LastTransitionTime = metav1.Now()
	if is := meta.FindStatusCondition(s.Conditions, c.Type); is != nil && is.Status == c.Status {
		c.LastTransitionTime = is.LastTransitionTime
	}
	all[m.UID] = wantedStatus{kind, m.Namespace, m.Name, c}
}

// has says whether a status has a condition, since whenever.
func has(s Status, c metav1.Condition) bool {
	is := meta.FindStatusCondition(s.Conditions, c.Type)
	return is != nil && same(*is, c)
}

// same compares conditions but for since when they hold.
func same(a, b metav1.Condition) bool {
	a.LastTransitionTime, b.LastTransitionTime = metav1.Time{}, metav1.Time{}
	return a == b
}

// patience is for how long, at random, a node waits before it writes what nobody else has: all
// nodes of an installation come to the same conditions, if their configuration files are the same. If they are
// not, none writes again what another one has overwritten, so that they do not write against each
// other without end; the latest condition stays, and the other nodes say so.
//
// Installations that are meant to differ have names, and so conditions of their own.
const patience = time.Second

// conditionType is the type of the condition of an installation; "": the only one.
func conditionType(installation string) string {
	if installation == "" {
		return "Accepted"
	}
	return installation + "." + Resources.Group + "/Accepted"
}

// statusWriter writes conditions.
type statusWriter struct {
	cluster *Cluster
	manager string // of the fields (server-side apply)
	news    chan struct{}

	mu      sync.Mutex
	wanted  map[types.UID]wantedStatus
	written map[types.UID]written
	denied  bool // it was said that statuses may not be written
}

// written is the condition of a resource that was written last.
type written struct {
	condition   metav1.Condition
	seen        bool // it was there
	overwritten bool // by another node, with another one of the same generation
	told        bool
}

func newStatusWriter(c *Cluster) *statusWriter {
	manager := "eproxy"
	if c.cfg.Name != "" {
		manager += "-" + c.cfg.Name
	}
	return &statusWriter{cluster: c, manager: manager, news: make(chan struct{}, 1), written: make(map[types.UID]written)}
}

// set says which conditions are wanted, all of them, and which resources there are.
func (s *statusWriter) set(wanted map[types.UID]wantedStatus, there map[types.UID]verdict) {
	s.mu.Lock()
	s.wanted = wanted
	for uid := range s.written {
		if _, ok := there[uid]; !ok {
			delete(s.written, uid)
		}
	}
	s.mu.Unlock()
	if len(wanted) > 0 {
		select {
		case s.news <- struct{}{}:
		default:
		}
	}
}

// seen notes the status that a resource has: what somebody else has written is not
// written again. It says whether what was written here has been overwritten, so that it has to be looked
// whether it is still wanted.
func (s *statusWriter) seen(uid types.UID, is Status) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w, ok := s.wanted[uid]; ok && has(is, w.condition) {
		delete(s.wanted, uid)
	}
	w, ok := s.written[uid]
	if !ok || w.overwritten {
		return false
	}
	now := meta.FindStatusCondition(is.Conditions, w.condition.Type)
	switch {
	case now == nil:
		return false
	case same(*now, w.condition):
		w.seen = true
	case w.seen && now.ObservedGeneration == w.condition.ObservedGeneration:
		w.overwritten = true
	}
	s.written[uid] = w
	return w.overwritten
}

// yields says whether another node has overwritten this condition.
func (s *statusWriter) yields(uid types.UID, w wantedStatus) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, ok := s.written[uid]
	if !ok || !last.overwritten || !same(last.condition, w.condition) {
		return false
	}
	if !last.told {
		last.told = true
		s.written[uid] = last
		s.cluster.log.Warn("another node has come to another condition of a resource of Kubernetes: their configurations differ, and kubernetes.name is the same",
			"kind", w.kind, "resource", w.namespace+"/"+w.name, "reason_here", w.condition.Reason, "message_here", w.condition.Message)
	}
	return true
}

// run writes until ctx ends.
func (s *statusWriter) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.news:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(rand.N(patience)):
		}
		s.mu.Lock()
		now := s.wanted
		s.wanted = nil
		s.mu.Unlock()
		left := make(map[types.UID]wantedStatus)
		for uid, w := range now {
			if !s.write(ctx, uid, w) {
				left[uid] = w
			}
		}
		if len(left) > 0 {
			time.AfterFunc(backoff.Cap, func() { s.again(left) })
		}
	}
}

// again has conditions written that could not be, unless newer ones are wanted.
func (s *statusWriter) again(left map[types.UID]wantedStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wanted != nil {
		return
	}
	s.wanted = left
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// write writes one condition; false: it is worth trying again.
func (s *statusWriter) write(ctx context.Context, uid types.UID, w wantedStatus) bool {
	if s.yields(uid, w) {
		return true
	}
	client, _, err := s.cluster.client(Resources)
	if err != nil {
		return false // those who read say it
	}
	// only of this object: another may have its name by now
	patch, err := json.Marshal(map[string]any{"apiVersion": Resources.String(), "kind": w.kind,
		"metadata": map[string]any{"name": w.name, "namespace": w.namespace, "uid": uid}, "status": Status{Conditions: []metav1.Condition{w.condition}}})
	if err != nil {
		return true
	}
	s.mu.Lock()
	if last, ok := s.written[uid]; !ok || !same(last.condition, w.condition) {
		s.written[uid] = written{condition: w.condition} // the news of it may come before the response
	}
	s.mu.Unlock()
	err = client.Patch(types.ApplyPatchType).Namespace(w.namespace).Resource(strings.ToLower(w.kind)+"s").Name(w.name).SubResource("status").
		Param("fieldManager", s.manager).Param("force", "true").Body(patch).Do(ctx).Error()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.denied = false
		return true
	case apierrors.IsForbidden(err):
		if !s.denied {
			s.cluster.log.Warn("the status of resources of Kubernetes cannot be written", "error", oneLine(err))
		}
		s.denied = true
		return false // it may be allowed
	case apierrors.IsNotFound(err) || apierrors.IsConflict(err): // it is gone, or another one by now
	default:
		return false
	}
	return true
}
