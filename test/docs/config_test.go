package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"eproxy/internal/config"
	"eproxy/test/lib/markdown"
)

// minimal has every key of the first level that a configuration must have.
const minimal = `interfaces: [eth0]
functions:
  - {name: temp, url: "http://temp.local/ingest", pods: [10.2.0.2:8080]}
routes:
  - {topic: "sensors/+/temp", function: temp}
`

func TestBlocksSayWhatTheyAre(t *testing.T) {
	for _, d := range parsed(t) {
		for _, b := range d.Blocks {
			marks := map[string][]string{"yaml": {"", markdown.Part, markdown.Other}, "sh": {"", markdown.NotRun}, "text": {""}, "c": {""}, "go": {""}}[b.Lang]
			if !slices.Contains(marks, b.Mark) {
				t.Errorf("%s:%d: a block of %q marked %q: nothing tries it", d.Name, b.Line, b.Lang, b.Mark)
			}
		}
	}
}

func TestConfigurationsAreValid(t *testing.T) {
	found := 0
	for _, d := range parsed(t) {
		for _, b := range d.Blocks {
			if b.Lang != "yaml" || b.Mark == markdown.Other {
				continue
			}
			found++
			text := b.Text
			if b.Mark == markdown.Part {
				text = complete(t, text)
			}
			if _, err := config.Parse(fmt.Sprintf("%s:%d", d.Name, b.Line), []byte(text), config.NeedInterfaces); err != nil {
				t.Error(err)
			}
		}
	}
	for _, f := range files(t, ".yaml") {
		if dir := filepath.Base(filepath.Dir(f)); dir != "docs" && dir != "examples" {
			continue
		}
		found++
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var needs []config.Need
		if filepath.Base(f) != "fallback.yaml" {
			needs = append(needs, config.NeedInterfaces)
		}
		if _, err := config.Parse(f, text, needs...); err != nil {
			t.Error(err)
		}
	}
	if found < 2 {
		t.Errorf("only %d configurations", found)
	}
}

// complete adds the keys of the first level that a part lacks.
func complete(t *testing.T, part string) string {
	t.Helper()
	var has, all map[string]yaml.Node
	if err := yaml.Unmarshal([]byte(part), &has); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(minimal), &all); err != nil {
		t.Fatal(err)
	}
	for k := range has {
		delete(all, k)
	}
	b, err := yaml.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return part + string(b)
}

// setting is code in prose that is a part of a configuration.
var setting = regexp.MustCompile(`^[a-z_]+: [^ ]`)

// places are where a setting may stand.
var places = []string{
	minimal + "%s\n",
	strings.Replace(minimal, `pods:`, `%s, pods:`, 1),
	strings.Replace(minimal, `function: temp`, `%s, function: temp`, 1),
	minimal + "limits: {%s}\n",
	minimal + "auth: {%s}\n",
	minimal + `auth: {users: [{username: u, password_hash: "$2y$05$abcdefghijklmnopqrstuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu.", %s}]}` + "\n",
	strings.Replace(minimal, "interfaces: [eth0]\n", "%s\n", 1),
	strings.Replace(minimal, "pods: [10.2.0.2:8080]", "%s", 1),
	strings.Replace(minimal, "pods: [10.2.0.2:8080]", "run: {command: [node], %s}", 1),
}

func TestSettingsInProseAreValid(t *testing.T) {
	eachSpan(t, func(at, text string) {
		if !setting.MatchString(text) {
			return
		}
		var first error
		for _, p := range places {
			_, err := config.Parse(at, []byte(fmt.Sprintf(p, text)), config.NeedInterfaces)
			if err == nil {
				return
			}
			if first == nil {
				first = err
			}
		}
		t.Errorf("%s: %q is valid nowhere: %v", at, text, first)
	})
}
