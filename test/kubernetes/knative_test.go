package kubernetes

import (
	"fmt"
	"strings"
	"testing"

	rbac "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"eproxy/internal/kube"
	"eproxy/test/lib/lab"
)

// knativeCRD is as much of Knative as there is without its controllers.
const knativeCRD = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: services.serving.knative.dev}
spec:
  group: serving.knative.dev
  scope: Namespaced
  names: {kind: Service, listKind: ServiceList, plural: services, singular: service, shortNames: [ksvc]}
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}}
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// traffic has a Knative Service say which revisions get which share of the traffic.
func (w *world) traffic(name, shares string) {
	w.t.Helper()
	services := w.dynamic().Resource(kube.Knative.WithResource("services")).Namespace(namespace)
	o, err := services.Get(w.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		o = &unstructured.Unstructured{Object: map[string]any{"apiVersion": kube.Knative.String(), "kind": "Service", "metadata": map[string]any{"name": name}}}
		if o, err = services.Create(w.t.Context(), o, metav1.CreateOptions{}); err != nil {
			w.t.Fatal(err)
		}
	}
	var status map[string]any
	if err := yaml.Unmarshal([]byte("{traffic: "+shares+"}"), &status); err != nil {
		w.t.Fatal(err)
	}
	o.Object["status"] = status
	if _, err := services.UpdateStatus(w.t.Context(), o, metav1.UpdateOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// revision writes the EndpointSlices of a revision as Knative's Services come to have them: those of its private
// Service, which name its pods, and those of the public one, which name an activator.
func (w *world) revision(name string, pods map[lab.Role]bool, activator lab.Role) {
	w.t.Helper()
	labels := func(kind string) map[string]string {
		return map[string]string{"serving.knative.dev/revision": name, "networking.internal.knative.dev/serviceType": kind}
	}
	w.slice(name+"-private", "http", labels("Private"), pods)
	w.slice(name, "http", labels("Public"), map[lab.Role]bool{activator: true})
}

// TestKnative: messages for a Service of Knative go to the pods of the revisions that get traffic, and
// no others; traffic moves to a new revision without a message lost.
func TestKnative(t *testing.T) {
	w := newWorld(t)
	p := w.eproxy("{knative: temp}", w.token("eproxy", readSlices))
	w.says(p, `services.serving.knative.dev \"temp\" is forbidden`)
	w.allow("eproxy", "knative", rbac.PolicyRule{APIGroups: []string{kube.Knative.Group}, Resources: []string{"services"}, Verbs: []string{"list", "watch"}})
	w.installCRD([]byte(knativeCRD))
	w.says(p, "there is no Service of Knative of that name")
	w.traffic("temp", "[]")
	w.says(p, "none of its revisions gets traffic")
	w.revision("temp-00001", map[lab.Role]bool{lab.Pod0: true}, lab.Pod1)
	w.revision("temp-00002", map[lab.Role]bool{lab.Pod1: true}, lab.Pod0)
	w.traffic("temp", "[{revisionName: temp-00001, percent: 100, latestRevision: true}, {revisionName: temp-00002, percent: 0, tag: next}]")
	c := w.device("d")
	for i := range 50 {
		payload := fmt.Sprint("one ", i)
		w.send(c, payload)
		if w.had(payload) != lab.Pod0 {
			t.Fatalf("%s went to %s", payload, w.had(payload))
		}
	}
	w.traffic("temp", "[{revisionName: temp-00002, percent: 100}]")
	n := 0
	w.until("the new revision to have the messages", func() bool {
		n++
		payload := fmt.Sprint("two ", n)
		w.send(c, payload)
		return w.had(payload) == lab.Pod1
	})
	for i := range 50 {
		payload := fmt.Sprint("three ", i)
		w.send(c, payload)
		if w.had(payload) != lab.Pod1 {
			t.Fatalf("%s went to %s", payload, w.had(payload))
		}
	}
	w.traffic("temp", "[{revisionName: temp-00001, percent: 50}, {revisionName: temp-00002, percent: 50}]")
	w.until("both revisions to have messages", func() bool {
		n++
		payload := fmt.Sprint("four ", n)
		w.send(c, payload)
		return w.had(payload) == lab.Pod0
	})
	if err := w.dynamic().Resource(kube.Knative.WithResource("services")).Namespace(namespace).Delete(t.Context(), "temp", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.until("the Service to be missed", func() bool { return strings.Count(p.Log(), "there is no Service of Knative of that name") == 2 })
}
