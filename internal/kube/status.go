package kube

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// wantedStatus is a condition that a resource does not have yet.
type wantedStatus struct {
	resource, namespace, name string
	condition                 metav1.Condition
}

// want notes the condition of a resource, unless it has it.
func want(all map[types.UID]wantedStatus, resource string, m *metav1.ObjectMeta, s Status, v verdict) {
	c := v.condition(m.Generation, metav1.Time{})
	if has(s, c) {
		return
	}
	c.LastTransitionTime = metav1.Now()
	if is := meta.FindStatusCondition(s.Conditions, c.Type); is != nil && is.Status == c.Status {
		c.LastTransitionTime = is.LastTransitionTime
	}
	all[m.UID] = wantedStatus{resource, m.Namespace, m.Name, c}
}

// has says whether a status has a condition, since whenever.
func has(s Status, c metav1.Condition) bool {
	is := meta.FindStatusCondition(s.Conditions, c.Type)
	if is == nil {
		return false
	}
	c.LastTransitionTime = is.LastTransitionTime
	return *is == c
}

// Every node comes to the same conditions. So that not each writes them all, one
// waits for some time, at random, and then writes what nobody else has; and so that nodes whose
// configuration files differ do not write against each other without end, what was
// written is not written again for rewrite.
const (
	patience = time.Second
	rewrite  = time.Minute
)

// statusWriter writes conditions.
type statusWriter struct {
	cluster *Cluster
	news    chan struct{}

	mu      sync.Mutex
	wanted  map[types.UID]wantedStatus
	written map[types.UID]written
	denied  bool // it was said that statuses may not be written
}

// written is when a condition was.
type written struct {
	condition metav1.Condition // without its time
	at        time.Time
}

func newStatusWriter(c *Cluster) *statusWriter {
	return &statusWriter{cluster: c, news: make(chan struct{}, 1), written: make(map[types.UID]written)}
}

// set says which conditions are wanted, all of them.
func (s *statusWriter) set(wanted map[types.UID]wantedStatus) {
	s.mu.Lock()
	s.wanted = wanted
	for uid, w := range s.written {
		if time.Since(w.at) > rewrite {
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
// written again.
func (s *statusWriter) seen(uid types.UID, is Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w, ok := s.wanted[uid]; ok && has(is, w.condition) {
		delete(s.wanted, uid)
	}
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
	content := w.condition
	content.LastTransitionTime = metav1.Time{}
	s.mu.Lock()
	last, again := s.written[uid]
	s.mu.Unlock()
	if again && last.condition == content && time.Since(last.at) < rewrite {
		return true
	}
	client, _, err := s.cluster.client(Resources)
	if err != nil {
		return false // those who read say it
	}
	// only of this object: another may have its name by now
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": uid}, "status": Status{Conditions: []metav1.Condition{w.condition}}})
	if err != nil {
		return true
	}
	err = client.Patch(types.MergePatchType).Namespace(w.namespace).Resource(w.resource).Name(w.name).SubResource("status").Body(patch).Do(ctx).Error()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.written[uid], s.denied = written{content, time.Now()}, false
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
