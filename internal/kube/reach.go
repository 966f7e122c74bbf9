package kube

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"eproxy/internal/endpoints"
)

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
