package kubernetes

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"eproxy/internal/predict"
	"eproxy/test/lib/await"
	"eproxy/test/lib/lab"
)

// What the loader needs to scale workloads, as the chart's scale gives it.
var (
	readScale  = rbac.PolicyRule{APIGroups: []string{"apps"}, Resources: []string{"deployments/scale", "statefulsets/scale"}, Verbs: []string{"get"}}
	patchScale = rbac.PolicyRule{APIGroups: []string{"apps"}, Resources: []string{"deployments/scale", "statefulsets/scale"}, Verbs: []string{"patch"}}
)

// deployment makes one without pods.
func (w *world) deployment(name string) {
	w.t.Helper()
	none, labels := int32(0), map[string]string{"app": name}
	_, err := w.client.AppsV1().Deployments(namespace).Create(w.t.Context(), &apps.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec: apps.DeploymentSpec{Replicas: &none, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: core.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: core.PodSpec{Containers: []core.Container{{Name: "f", Image: "f"}}}}}}, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
}

// replicas is how many pods a Deployment is to have.
func (w *world) replicas(name string) int32 {
	w.t.Helper()
	d, err := w.client.AppsV1().Deployments(namespace).Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return *d.Spec.Replicas
}

const scaledConfig = `functions:
  - {name: temp, url: "http://temp.local/", kubernetes: {service: temp}, retry: {attempts: 50, backoff: 10ms, max_backoff: 50ms}, autoscaling: {kubernetes: {deployment: temp, max: 3}}}
routes:
  - {topic: sensors/+/temp, function: temp}
`

// reason is what mapsctl functions shows of the function, with its state.
func (w *world) reason() string {
	w.t.Helper()
	for _, f := range w.mapsctl("functions") {
		return fmt.Sprint(f["state"], " ", f["instances"], " ", f["reason"])
	}
	return ""
}

// TestScaledByTheLoader: the first message for a Deployment without pods has it have one, and is delivered when that is ready, also if
// somebody else has changed the Deployment meanwhile; load has it have more, and a minute without any none again.
func TestScaledByTheLoader(t *testing.T) {
	w := newWorld(t)
	w.deployment("temp")
	w.service("temp", "http", nil)
	p := w.run(w.token("eproxy", readSlices, readScale, patchScale), "", scaledConfig)
	w.until("the scale to be read", func() bool { return w.reason() == "stopped 0 " })
	note := []byte(`{"metadata":{"annotations":{"somebody":"else"}}}`)
	if _, err := w.client.AppsV1().Deployments(namespace).Patch(t.Context(), "temp", types.MergePatchType, note, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	c := w.device("d")
	for _, payload := range []string{"after a change", "first"} {
		began := time.Now()
		waits := c.Publish("sensors/d/temp", 1, false, payload)
		w.until("one pod to be had", func() bool { return w.replicas("temp") == 1 })
		t.Logf("%s: one pod is to be had %s after PUBLISH", payload, time.Since(began).Round(100*time.Microsecond))
		w.service("temp", "http", map[lab.Role]bool{lab.Pod0: true}) // as the Deployment's controller and the kubelet would
		if !waits.WaitTimeout(waitTime) || waits.Error() != nil || w.had(payload) != lab.Pod0 {
			t.Fatalf("the message went to %q: %v", w.had(payload), waits.Error())
		}
		w.until("the pod to be shown", func() bool { return w.reason() == "ready 1 " })
		if n := w.replicas("temp"); n != 1 {
			t.Errorf("it is to have %d pods", n)
		}
		answered := time.Now()
		await.True(t, 2*predict.StableWindow, "it has nothing to do", func() bool { return w.replicas("temp") == 0 })
		if stayed := time.Since(answered); stayed < predict.StableWindow/2 {
			t.Errorf("it is to have no pods %s after its last message", stayed)
		}
		w.service("temp", "http", nil)
		w.until("it to be stopped", func() bool { return w.reason() == "stopped 0 " })
	}
	if strings.Contains(p.Log(), "cannot be scaled") {
		t.Error("somebody else's change is an error")
	}
}

// TestNotScaled: what hinders it is said once each, and shown; it is scaled as soon as nothing does.
func TestNotScaled(t *testing.T) {
	w := newWorld(t)
	w.service("temp", "http", nil)
	p := w.run(w.token("eproxy", readSlices), "", scaledConfig)
	w.says(p, "the right is missing to get deployments/scale in the namespace edge")
	w.allow("eproxy", "read", readScale)
	w.until("the Deployment to be missed", func() bool { return w.reason() == "stopped 0 there is no deployments/temp in the namespace edge" })
	w.deployment("temp")
	waits := w.device("d").Publish("sensors/d/temp", 1, false, "waits")
	w.says(p, "the right is missing to patch deployments/scale in the namespace edge (scale: true of the chart gives it)")
	w.allow("eproxy", "patch", patchScale)
	w.until("one pod to be had", func() bool { return w.replicas("temp") == 1 })
	w.service("temp", "http", map[lab.Role]bool{lab.Pod1: true})
	if !waits.WaitTimeout(waitTime) || w.had("waits") != lab.Pod1 {
		t.Errorf("the message went to %q", w.had("waits"))
	}
	if n := strings.Count(p.Log(), "function cannot be scaled"); n != 3 {
		t.Errorf("%d lines of what hinders it, want one for each", n)
	}
	w.says(p, "function can be scaled again")
}
