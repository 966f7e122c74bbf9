package docs_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"eproxy/test/lib/markdown"
)

// bin is where the programs are that TestMain built.
var bin string

// programs are those whose command lines the documents show.
var programs = []string{"loader", "mapsctl", "userspace-fallback"}

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "test/docs:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	var err error
	if bin, err = os.MkdirTemp("", "eproxy-docs-"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(bin)
	build := exec.Command("go", "build", "-buildvcs=false", "-o", bin+"/")
	for _, p := range programs {
		build.Args = append(build.Args, "eproxy/"+p)
	}
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("go build: %w: %s", err, out)
	}
	return m.Run(), nil
}

// files are the repository's files with one of these endings, but for those that
// other projects' tools brought along.
func files(t *testing.T, endings ...string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && path != root && (strings.HasPrefix(e.Name(), ".") || e.Name() == "node_modules" || e.Name() == "testdata" || e.Name() == "bin") {
			return fs.SkipDir
		}
		for _, x := range endings {
			if !e.IsDir() && strings.HasSuffix(path, x) {
				out = append(out, path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// parsed are all documents, except for the history.
func parsed(t *testing.T) []*markdown.Document {
	t.Helper()
	var out []*markdown.Document
	for _, f := range files(t, ".md") {
		if filepath.Base(f) == "CHANGELOG.md" {
			continue
		}
		d, err := markdown.Read(f)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, d)
	}
	if len(out) < 5 {
		t.Fatalf("only %d documents", len(out))
	}
	return out
}

// eachSpan calls f for all code in prose and all commands.
func eachSpan(t *testing.T, f func(at string, text string)) {
	t.Helper()
	for _, d := range parsed(t) {
		spans := d.Spans
		for _, b := range d.Blocks {
			if b.Lang == "sh" {
				spans = append(spans, b.Commands()...)
			}
		}
		for _, s := range spans {
			f(fmt.Sprintf("%s:%d", d.Name, s.Line), s.Text)
		}
	}
}
