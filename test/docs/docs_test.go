package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"eproxy/internal/bpf"
)

const root = "../.."

// documents are all Markdown files by their path from the root, but for the
// changelog, which speaks of what was.
func documents(t *testing.T) map[string]string {
	t.Helper()
	docs := make(map[string]string)
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			name, err := filepath.Rel(root, f)
			if err != nil {
				t.Fatal(err)
			}
			if name != "CHANGELOG.md" {
				docs[name] = read(t, f)
			}
		}
	}
	return docs
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)`)

// testsByDir are the names of all tests, by directory from the root.
func testsByDir(t *testing.T) map[string][]string {
	t.Helper()
	tests := make(map[string][]string)
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(name, "_test.go") {
			dir, err := filepath.Rel(root, filepath.Dir(name))
			if err != nil {
				return err
			}
			for _, m := range testFunc.FindAllStringSubmatch(read(t, name), -1) {
				tests[dir] = append(tests[dir], m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests
}

// TestNamedTestsExist: a document that gives a test as proof names one that there is.
func TestNamedTestsExist(t *testing.T) {
	known := make(map[string]bool)
	for _, names := range testsByDir(t) {
		for _, n := range names {
			known[n] = true
		}
	}
	mention := regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w+`)
	for name, text := range documents(t) {
		for _, m := range mention.FindAllString(text, -1) {
			if !known[m] {
				t.Errorf("%s: there is no %s", name, m)
			}
		}
	}
}

// TestLinksAndPathsExist: links between documents, and what is set as code and
// begins with a directory of the tree.
func TestLinksAndPathsExist(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	code := regexp.MustCompile("`((?:bpf|demo|bench|docs|examples|internal|loader|mapsctl|test|userspace-fallback|\\.ci)/[\\w./-]+)`")
	for name, text := range documents(t) {
		var paths []string
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			paths = append(paths, filepath.Join(filepath.Dir(name), m[1]))
		}
		for _, m := range code.FindAllStringSubmatch(text, -1) {
			paths = append(paths, m[1])
		}
		for _, p := range paths {
			if _, err := os.Stat(filepath.Join(root, p)); err != nil {
				t.Errorf("%s: there is no %s", name, p)
			}
		}
	}
}

// TestCommandsExist: `make` with a target that make help lists, and `go test`
// with a pattern that a test of that package matches.
func TestCommandsExist(t *testing.T) {
	makefile := read(t, filepath.Join(root, "Makefile"))
	tests := testsByDir(t)
	makes := regexp.MustCompile("(?m)(?:^|`|sudo )make ([a-z][a-z-]*)(?: ([A-Z]+)=)?")
	goTest := regexp.MustCompile(`(?m)^.*go test .*$`)
	pattern := regexp.MustCompile(`-run '?([^' ]+)'?`)
	pkg := regexp.MustCompile(` \./([\w/]+)`)
	for name, text := range documents(t) {
		for _, m := range makes.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(makefile, "\n## "+m[1]+": ") {
				t.Errorf("%s: make help knows no target %s", name, m[1])
			}
			if m[2] != "" && !strings.Contains(makefile, "\n"+m[2]+" ?= ") {
				t.Errorf("%s: the Makefile has no variable %s", name, m[2])
			}
		}
		for _, line := range goTest.FindAllString(text, -1) {
			in, run := pkg.FindStringSubmatch(line), pattern.FindStringSubmatch(line)
			if in == nil || run == nil {
				continue
			}
			top, _, _ := strings.Cut(run[1], "/")
			re, err := regexp.Compile(top)
			if err != nil || !slices.ContainsFunc(tests[in[1]], re.MatchString) {
				t.Errorf("%s: %s: no test matches (%v)", name, strings.TrimSpace(line), err)
			}
		}
	}
}

// TestProgramsAreDescribed: docs/ARCHITECTURE.md has each BPF program of the
// object; other names like those of programs are functions of the sources.
func TestProgramsAreDescribed(t *testing.T) {
	spec, err := bpf.LoadEproxy()
	if err != nil {
		t.Fatal(err)
	}
	text, sources := read(t, filepath.Join(root, "docs/ARCHITECTURE.md")), bpfSources(t)
	for name := range spec.Programs {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("docs/ARCHITECTURE.md does not say what %s does", name)
		}
	}
	for _, m := range regexp.MustCompile("`((?:xdp|tc|slot|device|sweep)_[a-z_]+)`").FindAllStringSubmatch(text, -1) {
		if spec.Programs[m[1]] == nil && !regexp.MustCompile(`\b`+m[1]+`\(`).MatchString(sources) {
			t.Errorf("docs/ARCHITECTURE.md: there is no program or function %s", m[1])
		}
	}
}

// bpfSources is the text of all sources of the BPF programs.
func bpfSources(t *testing.T) string {
	var all strings.Builder
	err := filepath.WalkDir(filepath.Join(root, "bpf"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && slices.Contains([]string{".c", ".h"}, filepath.Ext(path)) {
			all.WriteString(read(t, path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// TestIndexIsComplete: docs/README.md leads to every document and example.
func TestIndexIsComplete(t *testing.T) {
	index := read(t, filepath.Join(root, "docs/README.md"))
	for _, pattern := range []string{"*.md", "docs/*", "examples/*"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, f := range files {
			rel, err := filepath.Rel(filepath.Join(root, "docs"), f)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(index, "]("+rel+")"); rel != "README.md" && n != 1 {
				t.Errorf("docs/README.md names %s %d times", rel, n)
			}
		}
	}
}
