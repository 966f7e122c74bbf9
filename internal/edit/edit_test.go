package edit

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"eproxy/internal/config"
)

const before = `# the node
listeners:
  - address: ":1883" # plain
functions:
  # reads temperatures
  - name: temp
    url: http://temp.local/ # Host
    pods: [10.0.0.2:80, "[fd00::2]:80"] # two
    drain: [10.0.0.2:80]
  - name: audit
    url: http://audit.local/
    discover: {file: /run/pods}
    paused: true # for now
  - name: spare
    url: http://spare.local/
    paused: True # as YAML 1.1 has it
    discover: {dns: 'pods.local:80'}
    drain: [10.7.0.1:80]
routes:
  - {topic: a/+, function: temp}
  # all
  - topic: b/#
    function: audit
`

// TestEdit: each change changes what it is to change, and all comments stay.
func TestEdit(t *testing.T) {
	for name, c := range map[string]struct {
		change    Change
		has, lost string
	}{
		"add":                  {AddPod("temp", "10.0.0.3:80", false), "'10.0.0.3:80'] # two", ""},
		"add to none":          {AddPod("audit", "pod.local:80", false), "pods: ['pod.local:80']", ""},
		"add a drained one":    {AddPod("temp", "10.0.0.2:80", false), "drain: []", ""},
		"add a drained known":  {AddPod("spare", "10.7.0.1:80", true), "discover: {dns: 'pods.local:80'}\n    drain: []\n", "10.7.0.1"},
		"add a drained stale":  {AddPod("spare", "10.7.0.1:80", false), "drain: []\n    pods: ['10.7.0.1:80']", ""},
		"resume True":          {PauseFunction("spare", false), "paused: false # as YAML 1.1 has it", ""},
		"drain":                {DrainPod("temp", "[fd00::2]:80"), "drain: ['10.0.0.2:80', '[fd00::2]:80']", ""},
		"drain a source's":     {DrainPod("audit", "10.9.9.9:1"), "drain: ['10.9.9.9:1']", ""},
		"delete":               {DeletePod("temp", "[fd00:0::2]:80"), "pods: ['10.0.0.2:80'] # two", "fd00"},
		"delete a drained one": {DeletePod("temp", "10.0.0.2:80"), "drain: []", "10.0.0.2"},
		"pause":                {PauseFunction("temp", true), "    paused: true\n  - name: audit", ""},
		"resume":               {PauseFunction("audit", false), "paused: false # for now", ""},
		"route":                {AddRoute("c/#", "temp"), "- {topic: c/#, function: temp}", ""},
		"no route":             {DeleteRoute("a/+"), "topic: b/#", "a/+"},
	} {
		out, err := Apply([]byte(before), c.change)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text := string(out)
		if !strings.Contains(text, c.has) || c.lost != "" && strings.Contains(text, c.lost) {
			t.Errorf("%s: want %q and not %q in\n%s", name, c.has, c.lost, text)
		}
		for _, comment := range []string{"# the node", "# plain", "# reads temperatures", "# Host", "# two", "# for now", "# all"} {
			if !strings.Contains(text, comment) {
				t.Errorf("%s: the comment %q is lost", name, comment)
			}
		}
		if _, err := config.Parse("f.yaml", out); err != nil {
			t.Errorf("%s: no configuration: %v", name, err)
		}
	}
}

// TestEditErrors: what cannot be changed is said in one line.
func TestEditErrors(t *testing.T) {
	anchored := "functions:\n  - {name: f, pods: &p [10.0.0.2:80]}\n  - {name: g, pods: *p}\n"
	for name, c := range map[string]struct {
		text   string
		change Change
		want   string
		is     error
	}{
		"no function":      {before, AddPod("x", "10.0.0.3:80", false), "function x is not in the configuration", ErrAbsent},
		"pod is there":     {before, AddPod("temp", "[fd00::2]:80", false), "pod [fd00::2]:80 of function temp is in the configuration already", ErrPresent},
		"no pod":           {before, DeletePod("temp", "10.0.0.9:80"), "pod 10.0.0.9:80 of function temp is not in the configuration", ErrAbsent},
		"a source's pod":   {before, DeletePod("audit", "10.0.0.9:80"), "what a source names can be drained", ErrAbsent},
		"drained":          {before, DrainPod("temp", "10.0.0.2:80"), "is drained already", ErrPresent},
		"paused":           {before, PauseFunction("audit", true), " is paused already", ErrPresent},
		"paused, True":     {before, PauseFunction("spare", true), " is paused already", ErrPresent},
		"paused no bool":   {"functions: [{name: f, paused: [1]}]", PauseFunction("f", true), "line 1: paused is written", nil},
		"not paused":       {before, PauseFunction("temp", false), " is resumed already", ErrPresent},
		"no route":         {before, DeleteRoute("x"), "route x is not in the configuration", ErrAbsent},
		"no routes":        {"functions: []", DeleteRoute("x"), "route x is not", ErrAbsent},
		"aliased":          {anchored, AddPod("g", "10.0.0.3:80", false), "line 3: pods is written in a way that can only be edited by hand", nil},
		"anchored":         {anchored, AddPod("f", "10.0.0.3:80", false), "line 2: pods is written in a way that can only be edited by hand", nil},
		"pods are a text":  {"functions: [{name: f, pods: x}]", AddPod("f", "10.0.0.3:80", false), "line 1: pods is written", nil},
		"functions a text": {"functions: x", AddPod("f", "10.0.0.3:80", false), "line 1: functions is written", nil},
		"no mapping":       {"[]", AddPod("f", "10.0.0.3:80", false), "no mapping", nil},
		"empty":            {"", AddPod("f", "10.0.0.3:80", false), "no mapping", nil},
		"no YAML":          {"a: [", AddPod("f", "10.0.0.3:80", false), "not YAML", nil},
	} {
		_, err := Apply([]byte(c.text), c.change)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v, want one line with %q", name, err, c.want)
		}
	}
}

// parsed is a configuration without its text and lines.
func parsed(t *testing.T, text []byte) (functions []config.Function, routes []config.Route) {
	t.Helper()
	cfg, err := config.Parse("f.yaml", text)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	for _, fn := range cfg.Functions {
		functions = append(functions, *fn)
	}
	for _, r := range cfg.Routes {
		routes = append(routes, *r)
	}
	return functions, routes
}

// TestEditsUndoEachOther: a change and its opposite, on a file that has every key, leave the
// configuration as it was.
func TestEditsUndoEachOther(t *testing.T) {
	example, err := os.ReadFile("../../docs/example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, changes := range map[string][2]Change{
		"pod":      {AddPod("temp", "10.2.0.9:8080", false), DeletePod("temp", "10.2.0.9:8080")},
		"drain":    {DrainPod("temp", "10.2.0.2:8080"), AddPod("temp", "10.2.0.2:8080", false)},
		"function": {PauseFunction("temp", true), PauseFunction("temp", false)},
		"route":    {AddRoute("a/#", "temp"), DeleteRoute("a/#")},
	} {
		once, err := Apply(example, changes[0])
		if err != nil {
			t.Fatal(name, err)
		}
		twice, err := Apply(once, changes[1])
		if err != nil {
			t.Fatal(name, err)
		}
		f0, r0 := parsed(t, example)
		f1, r1 := parsed(t, once)
		f2, r2 := parsed(t, twice)
		if !reflect.DeepEqual(f0, f2) || !reflect.DeepEqual(r0, r2) {
			t.Errorf("%s: undone it is\n%s", name, twice)
		}
		if reflect.DeepEqual(f0, f1) && reflect.DeepEqual(r0, r1) {
			t.Errorf("%s: the change has changed nothing", name)
		}
	}
}

// FuzzEdit: whatever the text, a change says what is wrong in one line, or its result is
// YAML that says the same of everything else: a second change finds the first.
func FuzzEdit(f *testing.F) {
	f.Add([]byte(before), "temp", "10.0.0.9:80")
	f.Add([]byte("functions: [{name: f}]"), "f", "x")
	f.Add([]byte("functions: [&a {name: f}, *a]\nroutes: null"), "f", "a: b # c")
	f.Fuzz(func(t *testing.T, text []byte, function, pod string) {
		kept := bytes.Clone(text)
		out, err := Apply(text, AddPod(function, pod, false))
		if !bytes.Equal(text, kept) {
			t.Fatal("the text was changed in place")
		}
		if err != nil {
			return
		}
		if _, err := Apply(out, DeletePod(function, pod)); err != nil && !strings.Contains(err.Error(), "drained") {
			t.Fatalf("%v in\n%s", err, out)
		}
	})
}

// TestAnchoredFunction: a function whose mapping is named by an anchor is not changed: those that take its keys over would
// be, too.
func TestAnchoredFunction(t *testing.T) {
	text := "functions:\n  - &a {name: a, url: \"http://a.local/\"}\n  - {<<: *a, name: b}\n"
	if out, err := Apply([]byte(text), PauseFunction("a", true)); err == nil || !strings.Contains(err.Error(), "&a") {
		t.Errorf("%v:\n%s", err, out)
	}
}
