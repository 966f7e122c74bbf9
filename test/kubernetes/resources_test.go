package kubernetes

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	rbac "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"eproxy/internal/kube"
	"eproxy/test/lib/lab"
)

// readResources and writeStatus are the rights that MQTTRoutes need.
var (
	readResources = rbac.PolicyRule{APIGroups: []string{kube.Resources.Group}, Resources: []string{"mqttroutes", "mqttfunctions"}, Verbs: []string{"list", "watch"}}
	writeStatus   = rbac.PolicyRule{APIGroups: []string{kube.Resources.Group}, Resources: []string{"mqttroutes/status", "mqttfunctions/status"}, Verbs: []string{"patch"}}
)

// dynamic is a client for objects of any kind.
func (w *world) dynamic() *dynamic.DynamicClient {
	w.t.Helper()
	c, err := dynamic.NewForConfig(w.plane.Access())
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// installCRDs makes the resources known, as the chart has them.
func (w *world) installCRDs() {
	w.t.Helper()
	files, err := filepath.Glob("../../deploy/chart/crds/*.yaml")
	if err != nil || len(files) != 2 {
		w.t.Fatalf("%v %v", files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			w.t.Fatal(err)
		}
		w.installCRD(text)
	}
}

// installCRD makes a kind of resource known.
func (w *world) installCRD(text []byte) {
	w.t.Helper()
	crds := w.dynamic().Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(text, &o.Object); err != nil {
		w.t.Fatal(err)
	}
	if _, err := crds.Create(w.t.Context(), o, metav1.CreateOptions{FieldValidation: "Strict"}); err != nil {
		w.t.Fatal(err)
	}
	w.until("the CRD to be established", func() bool {
		got, err := crds.Get(w.t.Context(), o.GetName(), metav1.GetOptions{})
		if err != nil {
			return false
		}
		conditions, _, _ := unstructured.NestedSlice(got.Object, "status", "conditions")
		return strings.Contains(fmt.Sprint(conditions), "type:Established") && strings.Contains(fmt.Sprint(conditions), "status:True type:Established")
	})
}

// create makes a resource: its kind, name and spec in YAML.
func (w *world) create(kind, name, spec string) error {
	w.t.Helper()
	o := &unstructured.Unstructured{}
	text := fmt.Sprintf("{apiVersion: %s, kind: %s, metadata: {name: %s, namespace: %s}, spec: %s}", kube.Resources, kind, name, namespace, spec)
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		w.t.Fatal(err)
	}
	_, err := w.dynamic().Resource(kube.Resources.WithResource(strings.ToLower(kind)+"s")).Namespace(namespace).Create(w.t.Context(), o, metav1.CreateOptions{FieldValidation: "Strict"})
	return err
}

func (w *world) mustCreate(kind, name, spec string) {
	w.t.Helper()
	if err := w.create(kind, name, spec); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) delete(kind, name string) {
	w.t.Helper()
	if err := w.dynamic().Resource(kube.Resources.WithResource(strings.ToLower(kind)+"s")).Namespace(namespace).Delete(w.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// becomes waits until a resource has a condition for a reason.
func (w *world) becomes(kind, name, reason string) {
	w.t.Helper()
	w.becomesOf(kind, name, "Accepted", reason)
}

// becomesOf is becomes, of a condition of some type.
func (w *world) becomesOf(kind, name, condition, reason string) {
	w.t.Helper()
	last := ""
	w.untilSo(func() string { return fmt.Sprintf("%s %s to be %s, it is %s", kind, name, reason, last) }, func() bool {
		o, c := w.condition(kind, name, condition)
		last = fmt.Sprint(c)
		return c != nil && c.Reason == reason && (c.Status == metav1.ConditionTrue) == (reason == "Accepted") && c.ObservedGeneration == o.GetGeneration()
	})
}

// condition is a resource and its condition of a type; nil: there is none.
func (w *world) condition(kind, name, condition string) (*unstructured.Unstructured, *metav1.Condition) {
	w.t.Helper()
	o, err := w.dynamic().Resource(kube.Resources.WithResource(strings.ToLower(kind)+"s")).Namespace(namespace).Get(w.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return nil, nil
	}
	var typed kube.MQTTRoute // both have the same status
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(map[string]any{"status": o.Object["status"]}, &typed); err != nil {
		w.t.Fatal(err)
	}
	return o, meta.FindStatusCondition(typed.Status.Conditions, condition)
}

// TestResources: MQTTRoutes and MQTTFunctions route messages beside the configuration file,
// and their conditions say what has become of them; of two that want the same the older has it.
func TestResources(t *testing.T) {
	w := newWorld(t)
	w.service("temp", "http", map[lab.Role]bool{lab.Pod0: true})
	w.service("other", "http", map[lab.Role]bool{lab.Pod1: true})
	p := w.run(w.token("eproxy", readSlices, readResources), ", routes: [{namespace: edge, topics: [sensors/#]}]", "")
	w.untilSo(func() string { return "both kinds to be missed" }, func() bool {
		return strings.Count(p.Log(), "could not find the requested resource") == 2
	})
	w.installCRDs()
	w.mustCreate("MQTTRoute", "first", "{topic: sensors/+/temp, functionRef: {name: temp}}")
	c := w.device("d")
	w.untilRouted(c, "route", lab.Pod0)
	w.says(p, "the status of resources of Kubernetes cannot be written")
	w.allow("eproxy", "status", writeStatus)

	w.mustCreate("MQTTRoute", "second", "{topic: sensors/+/temp, functionRef: {kind: MQTTFunction, name: other}}")
	w.mustCreate("MQTTFunction", "other", "{service: {name: other, port: http}, timeout: 5s, retry: {attempts: 2}, tracing: {sample: 1}}")
	w.becomes("MQTTFunction", "other", "Accepted")
	w.becomes("MQTTRoute", "second", "Conflict")
	w.becomes("MQTTRoute", "first", "Accepted")
	w.delete("MQTTRoute", "first")
	w.becomes("MQTTRoute", "second", "Accepted")
	w.untilRouted(c, "second", lab.Pod1)
	w.delete("MQTTFunction", "other")
	w.becomes("MQTTRoute", "second", "FunctionNotFound")

	w.mustCreate("MQTTRoute", "beyond", "{topic: cmd/x, functionRef: {name: temp}}")
	w.becomes("MQTTRoute", "beyond", "NotAllowed")
	w.mustCreate("MQTTRoute", "wrong", "{topic: sensors/#/x, functionRef: {name: temp}}")
	w.becomes("MQTTRoute", "wrong", "Invalid")
	for spec, want := range map[string]string{
		"{functionRef: {name: temp}}":                                         "spec.topic: Required value",
		"{topic: a}":                                                          "spec.functionRef: Required value",
		"{topic: '', functionRef: {name: temp}}":                              "spec.topic",
		"{topic: a, functionRef: {name: temp, kind: Pod}}":                    "Unsupported value",
		"{topic: a, functionRef: {name: temp, kind: MQTTFunction, port: 80}}": "port is only for a Service",
		"{topic: a, functionRef: {name: temp, kind: MQTTFunction, group: serving.knative.dev}}": "group is only for a Service",
		"{topic: a, functionRef: {name: temp, group: apps}}":                                    "Unsupported value",
		"{topic: a, functionRef: {name: temp}, ordred: true}":                                   "unknown field",
		"{topic: a, functionRef: {name: temp}, ordered: sometimes}":                             "must be of type boolean",
	} {
		if err := w.create("MQTTRoute", "refused", spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", spec, err, want)
		}
	}
	for spec, want := range map[string]string{
		"{service: {name: a}, concurrency: 65}":                 "less than or equal to 64",
		"{service: {name: a}, timeout: soon}":                   "should match",
		"{service: {name: a}, url: 'https://a/'}":               "should match",
		"{service: {name: a}, deadLetter: {file: /etc/passwd}}": "unknown field",
		"{service: {name: a}, run: {command: [/bin/sh]}}":       "unknown field",
		"{service: {name: a}, tracing: {sample: 0}}":            "should be greater than 0",
		"{service: {name: a}, tracing: {sample: 1.5}}":          "less than or equal to 1",
		"{service: {name: a}, tracing: true}":                   "must be of type object",
		"{service: {name: a}, batch: {maxMessages: 0}}":         "greater than or equal to 1",
		"{service: {name: a}, cloudEvents: {mode: text}}":       "Unsupported value",
	} {
		if err := w.create("MQTTFunction", "refused", spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", spec, err, want)
		}
	}
	if err := w.create("MQTTFunction", "a.b", "{service: {name: a}}"); err == nil || !strings.Contains(err.Error(), "no dot") {
		t.Errorf("a name with a dot: %v", err)
	}
	table, err := w.client.RESTClient().Get().AbsPath("/apis", kube.Resources.String(), "namespaces", namespace, "mqttroutes").
		SetHeader("Accept", "application/json;as=Table;g=meta.k8s.io;v=v1").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"Topic"`, `"Accepted"`, `"sensors/#/x","temp","False","Invalid"`} {
		if !strings.Contains(string(table), want) {
			t.Errorf("kubectl get shows no %s: %s", want, table)
		}
	}
}

// TestNodesDisagree: of two nodes whose files differ each writes its condition once, and the one that
// is overwritten says so; where their installations have names each has a condition of its own.
func TestNodesDisagree(t *testing.T) {
	w := newWorld(t)
	w.installCRDs()
	w.service("temp", "http", map[lab.Role]bool{lab.Pod0: true})
	token := w.token("eproxy", readSlices, readResources, writeStatus)
	const all, none = ", routes: [{namespace: edge}]", ", routes: [{namespace: edge, topics: [other/#]}]"
	another := "listeners: [{address: \"127.0.0.1:1884\"}]\n"
	w.mustCreate("MQTTRoute", "a", "{topic: sensors/+/temp, functionRef: {name: temp}}")
	first := w.run(token, all, "")
	w.becomes("MQTTRoute", "a", "Accepted")
	second := w.runAs("fallback", token, none, another)
	w.becomes("MQTTRoute", "a", "NotAllowed")
	w.says(first, "another node has come to another condition of a resource")
	before, _ := w.condition("MQTTRoute", "a", "Accepted")
	w.mustCreate("MQTTRoute", "b", "{topic: other/b, functionRef: {name: temp}}") // has both look at all
	w.becomes("MQTTRoute", "b", "Accepted")
	w.mustCreate("MQTTRoute", "c", "{topic: other/c, functionRef: {name: temp}}")
	w.becomes("MQTTRoute", "c", "Accepted")
	if after, _ := w.condition("MQTTRoute", "a", "Accepted"); after.GetResourceVersion() != before.GetResourceVersion() {
		t.Errorf("they go on writing: version %s has become %s", before.GetResourceVersion(), after.GetResourceVersion())
	}
	w.says(first, "another node has come to another condition of a resource")
	if strings.Contains(second.Log(), "another node has come") {
		t.Error("both say that they are overwritten")
	}
	if err := second.Stop(); err != nil {
		t.Error(err)
	}
	w.runAs("fallback", token, ", name: west"+none, another)
	w.becomesOf("MQTTRoute", "a", "west.eproxy.io/Accepted", "NotAllowed")
	w.becomesOf("MQTTRoute", "b", "west.eproxy.io/Accepted", "Accepted")
	if _, c := w.condition("MQTTRoute", "a", "Accepted"); c == nil {
		t.Error("the condition without a name is gone")
	}
}
