package metrics

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// sources is the Go code below some directories, without tests.
func sources(t *testing.T, dirs ...string) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range dirs {
		err := filepath.WalkDir("../../"+dir, func(name string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			b, err := os.ReadFile(name)
			all.Write(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

// first are the first submatches of a pattern.
func first(pattern, in string) map[string]bool {
	out := map[string]bool{}
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(in, -1) {
		out[m[1]] = true
	}
	return out
}

func same(t *testing.T, what string, code, docs map[string]bool) {
	t.Helper()
	for name := range code {
		if !docs[name] {
			t.Errorf("docs/METRICS.md does not explain the %s %s", what, name)
		}
	}
	for name := range docs {
		if !code[name] {
			t.Errorf("docs/METRICS.md explains the %s %s, which there is not", what, name)
		}
	}
	if len(code) == 0 {
		t.Errorf("no %s found: the test tests nothing", what)
	}
}

// TestDocumented: docs/METRICS.md explains every metric and every reason why
// something is refused, and no other.
func TestDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	doc, refusals, _ := strings.Cut(string(b), "## What clients are refused")
	refusals, _, _ = strings.Cut(refusals, "\n## ")
	same(t, "metric", first(`"(eproxy_[a-z_]+)"`, sources(t, "internal", "loader", "userspace-fallback")), first("(?m)^\\| `(eproxy_[a-z_]+)`", doc))

	code := first(`[rR]efused\("([a-z_]+)"`, sources(t, "internal"))
	for name := range first(`return "([a-z_]+)"`, sources(t, "internal/mqtt")) {
		code[name] = true
	}
	for name := range first(`foreign: "([a-z_]+)"`, sources(t, "internal/mqtt")) {
		code[name] = true
	}
	for name := range first(`\{transport\.Err[A-Za-z]+, "([a-z_]+)"\}`, sources(t, "internal/mochi")) {
		code[name] = true
	}
	for way := range first(`\.enter\((?s:.{1,400}?)"([a-z]+)"\)`, sources(t, "internal/broker")) {
		code[way+"_not_authorized"] = true
	}
	same(t, "refusal", code, first("(?m)^\\| `([a-z_]+)`", refusals))
}
