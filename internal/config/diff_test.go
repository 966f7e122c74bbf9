package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestDiffNamesChanges: what was added, removed or changed, by its key in the file, and no secret.
func TestDiffNamesChanges(t *testing.T) {
	const before = `interfaces: [eth0]
auth:
  users: [{username: a, password_hash: $2a$04$0123456789012345678901uTQ8cE9ZKvK6oD1Gm8bRkOUnsxkYyqm}]
functions:
  - {name: temp, url: "http://temp.local/in", pods: ["10.2.0.2:8080"]}
  - {name: hum, url: "http://hum.local/in", pods: ["10.2.0.3:8080"]}
routes:
  - {topic: a, function: temp}
  - {topic: b, function: hum}
`
	old, err := Parse("f.yaml", []byte(before))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ from, to, want string }{
		{"", "", ""},
		{"interfaces", "drain_timeout: 9s\ninterfaces", `drain_timeout changed`},
		{"interfaces", "listeners: [{address: \":1883\"}, {address: \":1884\"}]\ninterfaces", `listener ":1884" added`},
		{"interfaces", "listeners: [{address: \":1884\"}]\ninterfaces", `listener ":1883" removed; listener ":1884" added`},
		{"interfaces", "listeners: [{address: \":1883\", websocket: true}]\ninterfaces", `listener ":1883" changed: websocket`},
		{"uTQ8", "uTQ9", `user "a" changed: password_hash`},
		{"username: a,", "username: a, deny_publish: [x],", `user "a" changed: deny_publish`},
		{"username: a,", "username: b,", `user "a" removed; user "b" added`},
		{"auth:\n", "auth:\n  password_file: /p\n", `auth.password_file changed`},
		{"temp.local/in", "temp.local/out", `function "temp" changed: url`},
		{"10.2.0.2:8080\"]", "temp.local:8080\"], dead_letter: {topic: dead}, cloudevents: {type: x}", `function "temp" changed: pods, dead_letter, cloudevents`},
		{"{name: hum,", "{name: wet,", `function "hum" removed; function "wet" added`},
		{"topic: a,", "topic: c,", `route "a" removed; route "c" added`},
		{"topic: a,", "topic: a, ordered: true,", `route "a" changed: ordered`},
	} {
		text := strings.Replace(before, x.from, x.to, 1)
		if x.from == "{name: hum," {
			text = strings.Replace(text, "function: hum", "function: wet", 1)
			x.want += `; route "b" changed: functions`
		}
		next, err := Parse("f.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(old.Diff(next), "; ")
		if got != x.want {
			t.Errorf("%q for %q: %s, want %s", x.to, x.from, got, x.want)
		}
		if strings.Contains(got, "$2a$") {
			t.Errorf("a hash is logged: %s", got)
		}
	}
}

// TestDiffIsBounded: of thousands of changes some are named.
func TestDiffIsBounded(t *testing.T) {
	next := &Config{}
	for i := range 1000 {
		next.Routes = append(next.Routes, &Route{Topic: fmt.Sprint(i)})
	}
	if d := (&Config{}).Diff(next); len(d) != maxDiff+1 || d[maxDiff] != "and 950 more" {
		t.Errorf("%d changes, the last: %s", len(d), d[len(d)-1])
	}
}

// TestDiffKeysAreThoseOfTheFile: each key that a Diff may name is one that the file may have.
func TestDiffKeysAreThoseOfTheFile(t *testing.T) {
	for _, x := range []struct{ of, file any }{{Config{}, raw{}}, {Listener{}, rawListener{}}, {Auth{}, rawAuth{}}, {User{}, rawUser{}}, {Function{}, rawFunction{}}, {Route{}, rawRoute{}}} {
		known := keys(reflect.TypeOf(x.file))
		for i := range reflect.TypeOf(x.of).NumField() {
			if f := reflect.TypeOf(x.of).Field(i); f.IsExported() && !slices.Contains(known, keyOf(f.Name)) {
				t.Errorf("%s is no key: %s", keyOf(f.Name), known)
			}
		}
	}
}
