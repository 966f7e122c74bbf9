package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"eproxy/internal/config"
)

// Apps is the group of workloads with pods that are alike.
var Apps = schema.GroupVersion{Group: "apps", Version: "v1"}

// ErrConflict means that a workload is not any more as it was when its scale was read.
var ErrConflict = errors.New("somebody else has changed it meanwhile")

// Scale is how many pods a workload is to have, and as of which of its versions.
type Scale struct {
	Replicas int
	Version  string
}

// scaleObject is a Scale of autoscaling/v1, as much of it as is needed here.
type scaleObject struct {
	Metadata struct {
		ResourceVersion string `json:"resourceVersion,omitempty"`
	} `json:"metadata"`
	Spec struct {
		Replicas int `json:"replicas"`
	} `json:"spec"`
}

// Scale reads how many pods a workload is to have.
func (c *Cluster) Scale(ctx context.Context, w config.Workload) (Scale, error) {
	client, namespace, err := c.client(Apps)
	if err != nil {
		return Scale{}, err
	}
	namespace = cmp.Or(w.Namespace, namespace)
	body, err := client.Get().Namespace(namespace).Resource(w.Resource).Name(w.Name).SubResource("scale").Do(ctx).Raw()
	return readScale(w, namespace, "get", body, err)
}

// SetScale says how many pods a workload is to have, if it is still as it was when its Scale was read; else the error is an ErrConflict.
func (c *Cluster) SetScale(ctx context.Context, w config.Workload, was Scale, replicas int) (Scale, error) {
	client, namespace, err := c.client(Apps)
	if err != nil {
		return Scale{}, err
	}
	namespace = cmp.Or(w.Namespace, namespace)
	var patch scaleObject
	patch.Metadata.ResourceVersion, patch.Spec.Replicas = was.Version, replicas
	b, err := json.Marshal(patch)
	if err != nil {
		return Scale{}, err
	}
	body, err := client.Patch(types.MergePatchType).Namespace(namespace).Resource(w.Resource).Name(w.Name).SubResource("scale").Body(b).Do(ctx).Raw()
	return readScale(w, namespace, "patch", body, err)
}

// readScale reads an answer, or says what it means that there is none.
func readScale(w config.Workload, namespace, verb string, body []byte, err error) (Scale, error) {
	what := fmt.Sprintf("%s/%s in the namespace %s", w.Resource, w.Name, namespace)
	switch {
	case apierrors.IsConflict(err):
		return Scale{}, fmt.Errorf("%s: %w", what, ErrConflict)
	case apierrors.IsNotFound(err):
		return Scale{}, fmt.Errorf("there is no %s", what)
	case apierrors.IsForbidden(err):
		return Scale{}, fmt.Errorf("the right is missing to %s %s/scale in the namespace %s (scale: true of the chart gives it)", verb, w.Resource, namespace)
	case err != nil:
		return Scale{}, fmt.Errorf("%s the scale of %s: %w", verb, what, oneLine(err))
	}
	var s scaleObject
	if err := json.Unmarshal(body, &s); err != nil {
		return Scale{}, fmt.Errorf("the scale of %s: %w", what, oneLine(err))
	}
	return Scale{Replicas: s.Spec.Replicas, Version: s.Metadata.ResourceVersion}, nil
}
