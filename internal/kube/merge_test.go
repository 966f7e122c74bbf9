package kube

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"eproxy/internal/config"
)

// fileOf is a configuration file.
func fileOf(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("f.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

const ownFile = `functions: [{name: own, url: "http://own/", pods: [10.0.0.1:80]}, {name: edge.taken, url: "http://own/", pods: [10.0.0.1:80]}]
routes: [{topic: own/+, function: own}]
limits: {routes: 4}
kubernetes: {routes: [{namespace: edge, topics: [sensors/#, own/#]}, {namespace: other}]}
`

func metaOf(namespace, name string, age int) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(namespace + "/" + name), CreationTimestamp: metav1.Unix(int64(1000-age), 0)}
}

func route(namespace, name string, age int, topic, kind, function string) *MQTTRoute {
	return &MQTTRoute{ObjectMeta: metaOf(namespace, name, age), Spec: RouteSpec{Topic: topic, FunctionRef: FunctionRef{Kind: kind, Name: function}}}
}

func mqttFunction(name string, spec FunctionSpec) *MQTTFunction {
	return &MQTTFunction{ObjectMeta: metaOf("edge", "function-"+name, 0), Spec: spec}
}

// TestMergeResources: what each resource comes to, and what it adds to the configuration.
func TestMergeResources(t *testing.T) {
	port := intstr.FromInt32(8080)
	ported := route("edge", "ported", 1, "sensors/p", "", "temp")
	ported.Spec.FunctionRef.Port = &port
	ported.Spec.Ordered, ported.Spec.AlsoBroker = true, true
	knativeRoute, foreign := route("edge", "knative", 1, "sensors/k", "", "temp"), route("edge", "foreign", 1, "sensors/f", "", "temp")
	knativeRoute.Spec.FunctionRef.Group, foreign.Spec.FunctionRef.Group = Knative.Group, "apps"
	all := FunctionSpec{Service: ServiceRef{Name: "temp", Port: &port}, URL: "http://temp/in", Concurrency: 3, Pipeline: 2, Topology: config.TopologyAny, Timeout: "5s", Deadline: "9s",
		Retry: &RetrySpec{Attempts: 7, Backoff: "1s", MaxBackoff: "2s", Final: &[]int{409}}, Headers: map[string]string{"X-A": "a"}, ContentType: "text/plain",
		CloudEvents: &CloudEventsSpec{Type: "t", Source: "//s", FromPublisher: true}, Tracing: &TracingSpec{Sample: new(0.25)}, Paused: true}
	for _, c := range []struct {
		name      string
		routes    []*MQTTRoute
		functions []*MQTTFunction
		want      map[string]string // reason and part of the message, by UID
		added     string
	}{
		{name: "a Service", routes: []*MQTTRoute{route("edge", "a", 1, "sensors/+/temp", "", "temp")}, want: map[string]string{"edge/a": `Accepted to the function "edge.temp.svc"`}, added: "sensors/+/temp>edge.temp.svc"},
		{name: "a Service with a port", routes: []*MQTTRoute{ported}, want: map[string]string{"edge/ported": "Accepted"}, added: "sensors/p>edge.temp.svc.8080"},
		{name: "a Service of Knative", routes: []*MQTTRoute{knativeRoute}, want: map[string]string{"edge/knative": `Accepted to the function "edge.temp.ksvc"`}, added: "sensors/k>edge.temp.ksvc"},
		{name: "a Service of somebody else", routes: []*MQTTRoute{foreign}, functions: []*MQTTFunction{mqttFunction("temp", FunctionSpec{Service: ServiceRef{Group: "x", Name: "temp"}})},
			want: map[string]string{"edge/foreign": `Invalid functionRef.group "apps": must be empty or serving.knative.dev`, "edge/function-temp": `Invalid service.group "x"`}},
		{name: "two routes to one Service", routes: []*MQTTRoute{route("edge", "a", 2, "sensors/a", "", "temp"), route("edge", "b", 1, "sensors/b", "Service", "temp")},
			want: map[string]string{"edge/a": "Accepted", "edge/b": "Accepted"}, added: "sensors/a>edge.temp.svc sensors/b>edge.temp.svc"},
		{name: "a function", routes: []*MQTTRoute{route("edge", "a", 1, "sensors/a", "MQTTFunction", "function-temp")}, functions: []*MQTTFunction{mqttFunction("temp", all)},
			want: map[string]string{"edge/a": "Accepted", "edge/function-temp": `Accepted as the function "edge.function-temp"`}, added: "sensors/a>edge.function-temp"},
		{name: "a function that nobody uses", functions: []*MQTTFunction{mqttFunction("temp", all)}, want: map[string]string{"edge/function-temp": "Accepted"}},
		{name: "a function that is wrong", routes: []*MQTTRoute{route("edge", "a", 1, "sensors/a", "MQTTFunction", "function-temp")},
			functions: []*MQTTFunction{mqttFunction("temp", FunctionSpec{Service: ServiceRef{Name: "temp"}, Headers: map[string]string{"Host": "x"}})},
			want:      map[string]string{"edge/a": "FunctionNotFound there is no MQTTFunction edge/function-temp that is accepted", "edge/function-temp": `Invalid function "edge.function-temp": header "Host" is written by eproxy itself`}},
		{name: "a sample that is none", functions: []*MQTTFunction{mqttFunction("temp", FunctionSpec{Service: ServiceRef{Name: "temp"}, Tracing: &TracingSpec{Sample: new(1.5)}})},
			want: map[string]string{"edge/function-temp": `Invalid function "edge.function-temp": tracing.sample 1.5: must be above 0, and at most 1`}},
		{name: "no such function", routes: []*MQTTRoute{route("edge", "a", 1, "sensors/a", "MQTTFunction", "none")}, want: map[string]string{"edge/a": "FunctionNotFound"}},
		{name: "of another namespace", routes: []*MQTTRoute{route("other", "a", 1, "sensors/a", "MQTTFunction", "function-temp")}, functions: []*MQTTFunction{mqttFunction("temp", all)},
			want: map[string]string{"other/a": "FunctionNotFound", "edge/function-temp": "Accepted"}},
		{name: "what a function may be", routes: []*MQTTRoute{route("edge", "a", 1, "sensors/a", "Pod", "x"), route("edge", "b", 1, "sensors/b", "", "A_b")},
			want: map[string]string{"edge/a": "Invalid functionRef.kind", "edge/b": `Invalid function "edge.A_b.svc": service "A_b"`}},
		{name: "a topic that is none", routes: []*MQTTRoute{route("edge", "a", 1, "sensors/#/x", "", "temp")}, want: map[string]string{"edge/a": `Invalid route "sensors/#/x"`}},
		{name: "topics of a namespace", routes: []*MQTTRoute{route("edge", "a", 1, "#", "", "temp"), route("edge", "b", 1, "+/x", "", "temp"), route("other", "c", 1, "#", "", "temp"), route("third", "d", 1, "x", "", "temp")},
			want: map[string]string{"edge/a": "NotAllowed", "edge/b": "NotAllowed", "other/c": "Accepted", "third/d": "NotAllowed"}, added: "#>other.temp.svc"},
		{name: "the file wins", routes: []*MQTTRoute{route("edge", "a", 900, "own/+", "", "temp"), route("edge", "b", 900, "$share/g/own/+", "", "temp")},
			want: map[string]string{"edge/a": "Conflict the configuration file has a route", "edge/b": "Conflict the configuration file"}},
		{name: "the file's function wins", functions: []*MQTTFunction{{ObjectMeta: metaOf("edge", "taken", 1), Spec: all}}, want: map[string]string{"edge/taken": "Conflict"}},
		{name: "a name with a dot", functions: []*MQTTFunction{{ObjectMeta: metaOf("edge", "temp.svc", 1), Spec: all}}, want: map[string]string{"edge/temp.svc": "Invalid"}},
		{name: "the older wins", routes: []*MQTTRoute{route("edge", "young", 1, "sensors/x", "", "temp"), route("other", "old", 2, "$share/g/sensors/x", "", "temp")},
			want: map[string]string{"edge/young": "Conflict the MQTTRoute other/old, which is older", "other/old": "Accepted"}, added: "$share/g/sensors/x>other.temp.svc"},
		{name: "of the same age", routes: []*MQTTRoute{route("edge", "b", 1, "sensors/x", "", "temp"), route("edge", "a", 1, "sensors/x", "", "temp")}, want: map[string]string{"edge/a": "Accepted", "edge/b": "Conflict"}, added: "sensors/x>edge.temp.svc"},
		{name: "an older one that is wrong is in nobody's way", routes: []*MQTTRoute{route("edge", "old", 2, "sensors/x", "MQTTFunction", "none"), route("edge", "young", 1, "sensors/x", "", "temp")},
			want: map[string]string{"edge/old": "FunctionNotFound", "edge/young": "Accepted"}, added: "sensors/x>edge.temp.svc"},
		{name: "too many", routes: []*MQTTRoute{route("edge", "a", 4, "sensors/a", "", "t"), route("edge", "b", 3, "sensors/b", "", "t"), route("edge", "c", 2, "sensors/c", "", "t"), route("edge", "d", 1, "sensors/d", "", "t")},
			want: map[string]string{"edge/a": "Accepted", "edge/b": "Accepted", "edge/c": "Accepted", "edge/d": "TooMany"}, added: "sensors/a>edge.t.svc sensors/b>edge.t.svc sensors/c>edge.t.svc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := fileOf(t, ownFile)
			cfg, verdicts := mergeResources(file, c.routes, c.functions)
			if len(verdicts) != len(c.want) {
				t.Errorf("%v", verdicts)
			}
			for uid, want := range c.want {
				v := verdicts[types.UID(uid)]
				if got := v.reason + " " + v.message; !strings.HasPrefix(got, want) || strings.Contains(got, "\n") {
					t.Errorf("%s: %s, want %s", uid, got, want)
				}
			}
			var added []string
			for _, r := range cfg.Routes[len(file.Routes):] {
				added = append(added, r.Topic+">"+strings.Join(r.Functions, ","))
				if cfg.Function(r.Functions[0]) == nil {
					t.Errorf("%s goes to a function that is not there", r.Topic)
				}
			}
			if got := strings.Join(added, " "); got != c.added {
				t.Errorf("added %q, want %q", got, c.added)
			}
			if len(file.Routes) != 1 || len(file.Functions) != 2 {
				t.Error("the file's own configuration has changed")
			}
		})
	}
	cfg, _ := mergeResources(fileOf(t, ownFile), []*MQTTRoute{ported, route("edge", "a", 1, "sensors/a", "MQTTFunction", "function-temp")}, []*MQTTFunction{mqttFunction("temp", all)})
	f := cfg.Function("edge.function-temp")
	if f.Concurrency != 3 || f.Pipeline != 2 || f.Topology != config.TopologyAny || f.Timeout != 5*time.Second || f.Deadline != 9*time.Second || !reflect.DeepEqual(f.Retry, config.Retry{Attempts: 7, Backoff: time.Second, MaxBackoff: 2 * time.Second, Final: []int{409}}) ||
		f.Headers["X-A"] != "a" || f.ContentType != "text/plain" || f.CloudEvents != (config.CloudEvents{Type: "t", Source: "//s", FromPublisher: true}) || f.Tracing != 0.25 || !f.Paused || f.Batch != nil ||
		f.URL.String() != "http://temp/in" || f.Discover.Service != (config.Service{Name: "temp", Namespace: "edge", Port: "8080"}) {
		t.Errorf("%+v", f)
	}
	events := FunctionSpec{Service: ServiceRef{Name: "temp"}, CloudEvents: &CloudEventsSpec{Mode: "structured"}, Batch: &BatchSpec{MaxMessages: 5, MaxBytes: 4096, Linger: "2s"}, Tracing: &TracingSpec{}}
	other, _ := mergeResources(fileOf(t, ownFile), []*MQTTRoute{route("edge", "a", 1, "sensors/a", "MQTTFunction", "function-temp")}, []*MQTTFunction{mqttFunction("temp", events)})
	f = other.Function("edge.function-temp")
	if !f.CloudEvents.Structured || f.Batch == nil || *f.Batch != (config.Batch{MaxMessages: 5, MaxBytes: 4096, Linger: 2 * time.Second}) || f.Tracing != 1 || f.Paused {
		t.Errorf("%+v, %+v", f, f.Batch)
	}
	f = cfg.Function("edge.temp.svc.8080")
	if f.Timeout != 30*time.Second || f.URL.String() != "http://temp.edge.svc/" || f.Discover.Service != (config.Service{Name: "temp", Namespace: "edge", Port: "8080"}) {
		t.Errorf("%+v", f)
	}
	cfg, _ = mergeResources(fileOf(t, ownFile), []*MQTTRoute{knativeRoute}, nil)
	if s := cfg.Function("edge.temp.ksvc").Discover.Service; s != (config.Service{Name: "temp", Namespace: "edge", Knative: true}) {
		t.Errorf("%+v", s)
	}
	cfg, _ = mergeResources(fileOf(t, ownFile), []*MQTTRoute{ported}, nil)
	for _, r := range cfg.Routes {
		if r.Topic == "sensors/p" && (!r.Ordered || !r.AlsoBroker) {
			t.Errorf("%+v", r)
		}
	}
}

// TestMergeDependsOnNoOrder: all nodes come to the same, however the resources reach them.
func TestMergeDependsOnNoOrder(t *testing.T) {
	file := fileOf(t, strings.Replace(ownFile, "limits: {routes: 4}", "limits: {routes: 12}", 1))
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	var routes []*MQTTRoute
	for i := range 40 {
		routes = append(routes, route([]string{"edge", "other"}[random.IntN(2)], fmt.Sprint("r", i), random.IntN(5), fmt.Sprint("sensors/", random.IntN(20)), []string{"", "MQTTFunction"}[random.IntN(2)], fmt.Sprint("function-", random.IntN(6))))
	}
	var functions []*MQTTFunction
	for i := range 4 {
		functions = append(functions, mqttFunction(fmt.Sprint(i), FunctionSpec{Service: ServiceRef{Name: "s"}}))
	}
	show := func() string {
		cfg, verdicts := mergeResources(file, routes, functions)
		var out strings.Builder
		for _, f := range cfg.Functions {
			fmt.Fprintln(&out, f.Name)
		}
		for _, r := range cfg.Routes {
			fmt.Fprintln(&out, r.Topic, r.Functions)
		}
		fmt.Fprintln(&out, verdicts)
		return out.String()
	}
	want := show()
	for range 20 {
		random.Shuffle(len(routes), func(i, j int) { routes[i], routes[j] = routes[j], routes[i] })
		random.Shuffle(len(functions), func(i, j int) { functions[i], functions[j] = functions[j], functions[i] })
		if got := show(); got != want {
			t.Fatalf("seed %d: another order gives\n%s\nafter\n%s", seed, got, want)
		}
	}
}
