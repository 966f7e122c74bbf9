package config

import (
	"strings"
	"testing"
	"time"
)

const good = `interfaces: [eth0]
functions:
  - name: temp
    url: http://temp.local/ingest
    pods: [10.2.0.2:8080, "[fd00::2]:8080"]
    timeout: 5s
routes:
  - topic: sensors/+/temp
    function: temp
`

func TestSmallConfiguration(t *testing.T) {
	c, err := Parse("f.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	f := c.Functions[0]
	if f.Timeout != 5*time.Second || f.Concurrency != 16 || len(f.Pods) != 2 || c.Listeners[0].Address != ":1883" || !c.Auth.AllowAnonymous {
		t.Errorf("%+v %+v", f, c)
	}
}

func TestFromPublisher(t *testing.T) {
	for with, want := range map[string]bool{"timeout: 5s": false, "cloudevents: {type: t}": false, "cloudevents: {from_publisher: true}": true} {
		c, err := Parse("f.yaml", []byte(strings.Replace(good, "timeout: 5s", with, 1)))
		if err != nil || c.Functions[0].CloudEvents.FromPublisher != want {
			t.Errorf("%s: %v, want %v", with, err, want)
		}
	}
}

func TestErrorsNameTheirLine(t *testing.T) {
	for _, c := range []struct{ replace, with, want string }{
		{"interfaces:", "interface:", `f.yaml:1: unknown field "interface"`},
		{"timeout: 5s", "timeout: soon", `f.yaml:6: duration "soon"`},
		{"timeout: 5s", "concurrency: 65", `f.yaml:6: concurrency 65: must be 1 to 64`},
		{"timeout: 5s", "concurrency: many", `f.yaml:6: `},
		{"10.2.0.2:8080", "10.2.0.2", `f.yaml:5: pod "10.2.0.2"`},
		{"url: http://temp.local/ingest", "url: ftp://x", `f.yaml:4: function "temp": url "ftp://x"`},
		{"function: temp", "function: tmp", `f.yaml:9: route "sensors/+/temp": unknown function "tmp"`},
		{"sensors/+/temp", "sensors/#/temp", `f.yaml:8: route "sensors/#/temp"`},
		{"    function: temp\n", "    function: temp\n  - topic: $share/g/sensors/+/temp\n    function: temp\n", `f.yaml:10: route "$share/g/sensors/+/temp" is a duplicate of line 8`},
		{"timeout: 5s", "headers: {Host: x}", `header "Host" is written by eproxy itself`},
		{"timeout: 5s", `headers: {X-A: "a\r\nb"}`, `has control characters`},
		{"pods: [10.2.0.2:8080, \"[fd00::2]:8080\"]", "pods: []", `function "temp" has no pods`},
		{"interfaces: [eth0]", "interfaces: [eth0]\nxdp: fast", `f.yaml:2: xdp "fast"`},
		{"interfaces: [eth0]", "interfaces: [eth0]\nlisteners: [{address: \"1883\"}]", `f.yaml:2: address "1883"`},
		{"interfaces: [eth0]", "interfaces: [eth0", `f.yaml:`},
	} {
		in := strings.Replace(good, c.replace, c.with, 1)
		_, err := Parse("f.yaml", []byte(in))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: error %q, want one line with %q", c.with, err, c.want)
		}
	}
}

func TestPermissionFilters(t *testing.T) {
	a := Auth{Users: []User{{Username: "dev", PasswordHash: "$2a$04$0123456789012345678901uTQ8cE9ZKvK6oD1Gm8bRkOUnsxkYyqm", Publish: []string{"sensors/%c/#"}, Subscribe: []string{"cmd/%c/#", "x/+"}}}}
	u := a.User("dev")
	for name, want := range map[string]bool{"sensors/d1/t": true, "sensors/d1": true, "sensors/d2/t": false} {
		if got := u.MayPublish("d1", name); got != want {
			t.Errorf("publish %s: %v", name, got)
		}
	}
	for f, want := range map[string]bool{"cmd/d1/#": true, "cmd/d1/x": true, "cmd/+/x": false, "#": false, "x/y": true, "x/+": true, "x/#": false} {
		if got := u.MaySubscribe("d1", f); got != want {
			t.Errorf("subscribe %s: %v", f, got)
		}
	}
	if u.MayPublish("+", "sensors/x/t") {
		t.Error("a client id brought a wildcard into a filter")
	}
	if a.Authenticate("", nil) || a.Authenticate("dev", []byte("no")) {
		t.Error("let in")
	}
}

func TestExampleHasEveryKey(t *testing.T) {
	if _, err := Load("../../docs/example.yaml"); err != nil {
		t.Error(err)
	}
}
