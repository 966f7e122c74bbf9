package endpoints

import (
	"context"
	"errors"
	"slices"

	"eproxy/internal/config"
)

// Cluster knows the pods of Kubernetes' Services (internal/kube). It stands behind an
// interface so that this package, and whoever only reads files or DNS with it, needs no
// client of Kubernetes.
type Cluster interface {
	// Follow calls found with the pods of a Service that are ready, at once and whenever
	// they have changed, and failed when it cannot find them out, until ctx ends.
	Follow(ctx context.Context, s config.Service, found func([]Pod), failed func(error))
}

// ErrLogged is what a source's error wraps if the source has logged it already, for
// itself and others that it has struck as well.
var ErrLogged = errors.New("logged")

// kubernetes is a Service.
type kubernetes struct {
	config.Service
	cluster Cluster
}

func (k kubernetes) String() string { return "kubernetes " + k.Service.String() }

func (k kubernetes) follow(ctx context.Context, found func([]Pod), failed func(error)) {
	if k.cluster == nil {
		failed(errors.New("this program does not ask Kubernetes"))
		return
	}
	k.cluster.Follow(ctx, k.Service, func(named []Pod) {
		pods := []Pod{}
		for _, p := range named {
			if a, err := pod(p.Address.Addr(), p.Address.Port()); err == nil {
				pods = append(pods, Pod{a, p.Identity, p.Place})
			}
		}
		slices.SortStableFunc(pods, func(a, b Pod) int { return a.Address.Compare(b.Address) })
		if len(pods) > maxPods {
			failed(errTooMany)
			return
		}
		found(pods)
	}, failed)
}
