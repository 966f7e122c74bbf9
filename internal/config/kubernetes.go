package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"eproxy/internal/topic"
)

// label is a name of a Service, a namespace or a port (RFC 1123 section 2.1, in
// lower case; Kubernetes' "DNS label").
var label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

const labelRule = "must be a name as Kubernetes has them: a-z, 0-9 and -, up to 63 characters"

// service reads which Service a function's pods are of.
func (b *builder) service(path, function string, r *rawKubernetes) Service {
	key, name := "service", r.Service
	if r.Knative != "" {
		key, name = "knative", r.Knative
	}
	switch {
	case r.Service != "" && r.Knative != "":
		b.fail(path+".knative", "function %q: service and knative are two Services: one of them is too many", function)
	case !label.MatchString(name):
		b.fail(path+"."+key, "function %q: %s %q: %s", function, key, name, labelRule)
	}
	if r.Namespace != "" && !label.MatchString(r.Namespace) {
		b.fail(path+".namespace", "function %q: namespace %q: %s", function, r.Namespace, labelRule)
	}
	if r.Port != "" && !servicePort(r.Port) {
		b.fail(path+".port", "function %q: port %q: must be the name of one of the Service's ports, or a number from 1 to 65535", function, r.Port)
	}
	return Service{Name: name, Knative: key == "knative", Namespace: r.Namespace, Port: r.Port}
}

// servicePort says whether a port may be one's name or number.
func servicePort(s string) bool {
	if strings.Trim(s, "0123456789") != "" {
		return label.MatchString(s)
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// cluster reads how the API server is reached.
func (b *builder) cluster(r *rawCluster) {
	if r.Kubeconfig != "" && !strings.HasPrefix(r.Kubeconfig, "/") {
		b.fail("$.kubernetes.kubeconfig", "kubernetes.kubeconfig %q: must be an absolute path", r.Kubeconfig)
	}
	if r.Name != "" && !label.MatchString(r.Name) {
		b.fail("$.kubernetes.name", "kubernetes.name %q: %s", r.Name, labelRule)
	}
	b.cfg.Kubernetes.Kubeconfig, b.cfg.Kubernetes.Name = r.Kubeconfig, r.Name
	for i := range r.Routes {
		b.routeSource(fmt.Sprintf("$.kubernetes.routes[%d]", i), &r.Routes[i])
	}
}

// routeSource reads a namespace whose MQTTRoutes count.
func (b *builder) routeSource(path string, r *rawRouteSource) {
	if !label.MatchString(r.Namespace) {
		b.fail(path+".namespace", "kubernetes.routes: namespace %q: %s", r.Namespace, labelRule)
	}
	if slices.ContainsFunc(b.cfg.Kubernetes.Routes, func(s RouteSource) bool { return s.Namespace == r.Namespace }) {
		b.fail(path+".namespace", "kubernetes.routes: namespace %q is a duplicate", r.Namespace)
	}
	for i, t := range r.Topics {
		if err := topic.ValidateFilter(t); err != nil {
			b.fail(fmt.Sprintf("%s.topics[%d]", path, i), "kubernetes.routes: topic %q: %v", t, err)
		}
	}
	if r.Topics == nil {
		r.Topics = []string{"#"}
	}
	b.cfg.Kubernetes.Routes = append(b.cfg.Kubernetes.Routes, RouteSource{Namespace: r.Namespace, Topics: r.Topics})
}
