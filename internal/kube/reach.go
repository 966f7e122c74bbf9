package kube

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"eproxy/internal/endpoints"
)

// backoff is how long after a failure the API server is asked again: with 250 ms at
// first and up to 5 s, so that what has changed during an outage is known soon after
// it; with jitter, so that not all nodes ask at once.
var backoff = wait.Backoff{Duration: 250 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 6, Cap: 5 * time.Second}

// what says what is asked for.
type what struct {
	resource, namespace string
	labels              string // selector; "": all
	name                string // of the only object; "": all
	object              runtime.Object
}

// asking remembers how the requests of one list and watch went.
type asking struct {
	cluster *Cluster
	failed  func(error) // an error has come that is not the one before; mu is held
	mended  func()      // there is a watch again; mu is held

	mu     sync.Mutex
	broken string // the error that failed was called with last
}

// follow has a store filled with what is asked for until ctx ends.
func (a *asking) follow(ctx context.Context, client rest.Interface, w what, store cache.ReflectorStore) {
	silent := logr.Discard()
	lw := observed{cache.NewFilteredListWatchFromClient(client, w.resource, w.namespace, func(o *metav1.ListOptions) {
		if o.LabelSelector = w.labels; w.name != "" {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, w.name).String()
		}
	}), a.went}
	r := cache.NewReflectorWithOptions(lw, w.object, store, cache.ReflectorOptions{Logger: &silent, Name: w.resource, Backoff: &backoff})
	r.RunWithContext(klog.NewContext(ctx, silent))
}

// went notes how a request went.
func (a *asking) went(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	err = a.cluster.judge(err)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err == nil && a.broken != "":
		a.broken = ""
		a.mended()
	case err != nil && a.broken != err.Error():
		a.broken = err.Error()
		a.failed(err)
	}
}

// observed is a list and watch whose requests tell how they went: with an error, or that
// now there is a watch. A list alone is no success, for without a watch it grows old.
type observed struct {
	*cache.ListWatch
	went func(ctx context.Context, err error)
}

// ListWithContext is one request.
func (o observed) ListWithContext(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	list, err := o.ListWatch.ListWithContext(ctx, options)
	if err != nil {
		o.went(ctx, err)
	}
	return list, err
}

// WatchWithContext is one request, too: how the events end that it leads to, the next one tells.
func (o observed) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	w, err := o.ListWatch.WatchWithContext(ctx, options)
	// A list that is to be streamed and is not allowed, or that the server cannot stream
	// (Kubernetes before 1.32), is asked for as a whole next, which tells.
	if options.SendInitialEvents == nil || err == nil || !answered(err) {
		o.went(ctx, err)
	}
	return w, err
}

// answered says whether an error is the API server's answer.
func answered(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status)
}

// judge logs when the API server ceases to answer and when it does again, once for all
// that is asked of it. An error that is about the question alone comes back as it
// is, for whoever has asked, the others as one that is logged.
func (c *Cluster) judge(err error) error {
	if err == nil || aboutTheQuestion(err) {
		c.answers()
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.down {
		c.down = true
		c.log.Warn("the API server of Kubernetes cannot be asked, what it said last stays", "error", oneLine(err))
	}
	return fmt.Errorf("%w: %w", endpoints.ErrLogged, err)
}

// answers notes that the API server has answered.
func (c *Cluster) answers() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		c.down = false
		c.log.Info("the API server of Kubernetes answers again")
	}
}

// aboutTheQuestion says whether the API server answers, but not to this.
func aboutTheQuestion(err error) bool {
	// ServiceUnavailable and the like come while it starts, Unauthorized is about all questions
	return apierrors.IsForbidden(err) || apierrors.IsNotFound(err) || apierrors.IsResourceExpired(err) || apierrors.IsGone(err)
}
