package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	walkRow  = regexp.MustCompile(`(?m)^\|.*\|$`)
	walkWord = regexp.MustCompile("`((?:s->)?[a-z_/]+(?:\\.bpf\\.c|\\.h)?)`")
)

// defines says whether C sources have a function, a macro, a struct or a field of this name.
func defines(src, name string) bool {
	return regexp.MustCompile(`(?m)^(?:[a-z_][^;{}=\n]*[ *]` + name + `\(|#define ` + name + `\b|(?:struct|enum) ` + name + ` \{|\t[^;(\n]*[ *]` + name + `(?:\[[^\n]*\])?;)`).MatchString(src)
}

// TestWalk: the way of one PUBLISH through the files, as docs/ARCHITECTURE.md tells it, names files that there are, and
// functions that stand in these files.
func TestWalk(t *testing.T) {
	doc, err := os.ReadFile("../../docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, walk, _ := strings.Cut(string(doc), "\n### One PUBLISH\n")
	rows, refused, ok := strings.Cut(walk, "\n### One that is refused\n")
	if !ok {
		t.Fatal("docs/ARCHITECTURE.md does not walk a PUBLISH through the files")
	}
	text, _, _ := strings.Cut(refused, "\n## ")
	text += " `work/scratch.h`"
	for _, row := range walkRow.FindAllStringSubmatch(rows, -1) {
		text += row[0] // without the prose around the table
	}
	abi, err := filepath.Glob("../../bpf/abi/*.h") // whose fields the walk names, too
	if err != nil {
		t.Fatal(err)
	}
	src, names := "", map[string]bool{}
	for _, f := range abi {
		text += " `abi/" + filepath.Base(f) + "`"
	}
	for _, m := range walkWord.FindAllStringSubmatch(text, -1) {
		if m[1] = strings.TrimPrefix(m[1], "s->"); !strings.Contains(m[1], ".h") && !strings.Contains(m[1], ".bpf.c") {
			names[m[1]] = true
			continue
		}
		b, err := os.ReadFile(filepath.Join("../../bpf", m[1]))
		if err != nil {
			t.Errorf("docs/ARCHITECTURE.md: %v", err)
		}
		src += string(b)
	}
	for name := range names {
		if !defines(src, name) {
			t.Errorf("docs/ARCHITECTURE.md: no file that the walk names has %s", name)
		}
	}
	if len(names) < 20 {
		t.Errorf("%d functions are named: the test tests nothing", len(names))
	}
}
