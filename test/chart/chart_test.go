package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigs "sigs.k8s.io/yaml"

	"eproxy/internal/config"
	"eproxy/internal/privilege"
)

const (
	dir      = "../../deploy/chart"
	manifest = "../../deploy/eproxy.yaml"
)

// TestManifestIsTheChart: who installs by kubectl gets what Helm installs.
func TestManifestIsTheChart(t *testing.T) {
	want, err := plain(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the chart makes: run make generate-manifest", manifest)
	}
}

// objects are those of a rendered chart, by kind and name. Each must have only fields that its type has.
func objects(t *testing.T, values map[string]any) map[string]any {
	t.Helper()
	text, err := render(dir, values)
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]func() any{
		"ServiceAccount": func() any { return &core.ServiceAccount{} }, "ConfigMap": func() any { return &core.ConfigMap{} },
		"DaemonSet": func() any { return &apps.DaemonSet{} }, "Role": func() any { return &rbac.Role{} }, "RoleBinding": func() any { return &rbac.RoleBinding{} },
		"ClusterRole": func() any { return &rbac.ClusterRole{} }, "ClusterRoleBinding": func() any { return &rbac.ClusterRoleBinding{} },
	}
	out := make(map[string]any)
	for r := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text))); ; {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		var head struct {
			Kind     string
			Metadata struct{ Name, Namespace string }
		}
		if err := sigs.Unmarshal(doc, &head); err != nil {
			t.Fatalf("%v:\n%s", err, doc)
		}
		if head.Kind == "" || head.Kind == "CustomResourceDefinition" {
			continue
		}
		make := types[head.Kind]
		if make == nil {
			t.Fatalf("no type for %s", head.Kind)
		}
		o := make()
		if err := sigs.UnmarshalStrict(doc, o); err != nil {
			t.Errorf("%s: %v", head.Kind, err)
		}
		out[strings.Join([]string{head.Kind, head.Metadata.Namespace, head.Metadata.Name}, " ")] = o
	}
}

// TestObjects: the chart's objects are whole, have the capabilities that the loader needs and no
// more, a configuration that the loader takes, and one right.
func TestObjects(t *testing.T) {
	all := objects(t, nil)
	if want := []string{"ConfigMap eproxy eproxy", "DaemonSet eproxy eproxy", "Role default eproxy", "RoleBinding default eproxy", "ServiceAccount eproxy eproxy"}; !slices.Equal(slices.Sorted(maps.Keys(all)), want) {
		t.Fatalf("%v, want %v", slices.Sorted(maps.Keys(all)), want)
	}
	pod := all["DaemonSet eproxy eproxy"].(*apps.DaemonSet).Spec.Template.Spec
	c := pod.Containers[0]
	var added []string
	for _, a := range c.SecurityContext.Capabilities.Add {
		added = append(added, "CAP_"+string(a))
	}
	slices.Sort(added)
	if want := slices.Sorted(slices.Values(privilege.Needed())); !slices.Equal(added, want) {
		t.Errorf("capabilities %v, want %v", added, want)
	}
	if !pod.HostNetwork || *c.SecurityContext.AllowPrivilegeEscalation || c.SecurityContext.Privileged != nil {
		t.Errorf("%+v", c.SecurityContext)
	}
	cfg, err := config.Parse("eproxy.yaml", []byte(all["ConfigMap eproxy eproxy"].(*core.ConfigMap).Data["eproxy.yaml"]), config.NeedInterfaces)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*core.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		if got := p.HTTPGet.Host + ":" + p.HTTPGet.Port.String(); got != cfg.Metrics.Listen {
			t.Errorf("a probe asks at %s, the configuration says %s", got, cfg.Metrics.Listen)
		}
	}
	if cfg.DrainTimeout.Seconds() >= float64(*pod.TerminationGracePeriodSeconds) {
		t.Errorf("drain_timeout %s, and the pod is killed after %d s", cfg.DrainTimeout, *pod.TerminationGracePeriodSeconds)
	}
	for name, o := range all {
		role, ok := o.(*rbac.Role)
		if ok && (len(role.Rules) != 1 || !slices.Equal(role.Rules[0].Resources, []string{"endpointslices"}) || !slices.Equal(role.Rules[0].Verbs, []string{"list", "watch"})) {
			t.Errorf("%s: %+v", name, role.Rules)
		}
	}
}

// TestRoutesNeedMoreRights: resources may be read, and their status written, only where that is asked for.
func TestRoutesNeedMoreRights(t *testing.T) {
	var got []string
	for _, r := range objects(t, map[string]any{"mqttRoutes": true, "knative": true, "scale": true})["Role default eproxy"].(*rbac.Role).Rules {
		got = append(got, strings.Join(r.Resources, ",")+" "+strings.Join(r.Verbs, ","))
	}
	if want := []string{"endpointslices list,watch", "services list,watch", "deployments/scale,statefulsets/scale get,patch", "mqttroutes,mqttfunctions list,watch", "mqttroutes/status,mqttfunctions/status patch"}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

// TestNamespaces: rights are in the namespaces that are named, or in all.
func TestNamespaces(t *testing.T) {
	two := slices.Sorted(maps.Keys(objects(t, map[string]any{"namespaces": []any{"a", "b"}})))
	if want := []string{"ConfigMap eproxy eproxy", "DaemonSet eproxy eproxy", "Role a eproxy", "Role b eproxy", "RoleBinding a eproxy", "RoleBinding b eproxy", "ServiceAccount eproxy eproxy"}; !slices.Equal(two, want) {
		t.Errorf("%v", two)
	}
	every := slices.Sorted(maps.Keys(objects(t, map[string]any{"namespaces": []any{}})))
	if want := []string{"ClusterRole  eproxy", "ClusterRoleBinding  eproxy", "ConfigMap eproxy eproxy", "DaemonSet eproxy eproxy", "ServiceAccount eproxy eproxy"}; !slices.Equal(every, want) {
		t.Errorf("%v", every)
	}
}
