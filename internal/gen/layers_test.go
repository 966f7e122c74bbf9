package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// longest is a screen: lines between a function's braces.
const longest = 60

var (
	layerRow    = regexp.MustCompile("(?m)^\\| ((?:`[a-z]+`(?:, )?)+) \\| [^|]+ \\| ([^|]+) \\|$")
	layerName   = regexp.MustCompile("`([a-z]+)`")
	anyInclude  = regexp.MustCompile(`(?m)^\s*#\s*include\s+"([^"]+)"`)
	functionEnd = regexp.MustCompile(`(?ms)^\{\n(.*?)^\}`)
)

// layers are the folders of bpf with those that each may include, as docs/ARCHITECTURE.md has them.
func layers(t *testing.T, doc string) map[string][]string {
	t.Helper()
	_, section, ok := strings.Cut(doc, "\n## The files of the datapath\n")
	if !ok {
		t.Fatal("docs/ARCHITECTURE.md has no section about the files of the datapath")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	may := map[string][]string{}
	for _, row := range layerRow.FindAllStringSubmatch(section, -1) {
		var below []string
		for _, m := range layerName.FindAllStringSubmatch(row[2], -1) {
			if may[m[1]] == nil {
				t.Errorf("%s may include %s, which stands below it in the table", row[1], m[1])
			}
			below = append(below, m[1])
		}
		for _, m := range layerName.FindAllStringSubmatch(row[1], -1) {
			may[m[1]] = append([]string{m[1]}, below...)
		}
	}
	return may
}

// crossing are the includes of a source in a folder of bpf that lead where that folder may not look.
func crossing(folder, src string, may []string) []string {
	var out []string
	for _, m := range anyInclude.FindAllStringSubmatch(src, -1) {
		if to := filepath.Dir(filepath.Join(folder, m[1])); !slices.Contains(may, to) {
			out = append(out, m[1])
		}
	}
	return out
}

// tooLong are the first lines of the functions that are longer than a screen.
func tooLong(src string) []string {
	var out []string
	for _, at := range functionEnd.FindAllStringSubmatchIndex(src, -1) {
		if strings.Count(src[at[2]:at[3]], "\n") > longest {
			head := strings.TrimSpace(src[:at[0]])
			out = append(out, head[strings.LastIndexByte(head, '\n')+1:])
		}
	}
	return out
}

// TestLayers: each file of the datapath includes only what its folder may, and no function is longer than a screen.
func TestLayers(t *testing.T) {
	doc, err := os.ReadFile("../../docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	may := layers(t, string(doc))
	files, err := filepath.Glob("../../bpf/*/*.[hc]")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range files {
		folder := filepath.Base(filepath.Dir(f))
		if folder == "native" {
			continue
		}
		seen[folder] = true
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range crossing(folder, string(b), may[folder]) {
			t.Errorf("%s includes %s: %s may include only %v", f, to, folder, may[folder])
		}
		for _, head := range tooLong(string(b)) {
			t.Errorf("%s: more than %d lines: %s", f, longest, head)
		}
	}
	for folder := range may {
		if !seen[folder] {
			t.Errorf("docs/ARCHITECTURE.md names %s, which has no files", folder)
		}
	}
}

var (
	bareDrop = regexp.MustCompile(`\breturn (?:TC|XDP)_DROP\b`)
	hookBody = regexp.MustCompile(`(?ms)^SEC\("(?:tc|xdp)"\)\nint (\w+)\(.*?^\}`)
)

// silent are drops that give no reason, and hooks that do not end in leave().
func silent(src string) []string {
	out := bareDrop.FindAllString(src, -1)
	for _, m := range hookBody.FindAllStringSubmatch(src, -1) {
		if strings.Count(m[0], "leave(") != 1 {
			out = append(out, m[1])
		}
	}
	return out
}

// TestOneExit: each hook counts in one place why a packet leaves it, and no packet is dropped without a reason.
func TestOneExit(t *testing.T) {
	hooks := 0
	for _, folder := range []string{"xdp", "tc", "take", "reply", "upstream"} {
		files, err := filepath.Glob("../../bpf/" + folder + "/*.[hc]")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range silent(string(b)) {
				t.Errorf("%s: %s", f, s)
			}
			hooks += len(hookBody.FindAll(b, -1))
		}
	}
	if hooks != 5 {
		t.Errorf("%d hooks", hooks)
	}
}

// TestLayersFindsMistakes: what TestLayers looks for is found.
func TestLayersFindsMistakes(t *testing.T) {
	may := []string{"mech", "pure"}
	if got := crossing("mech", "#include \"skb.h\"\n#include <a.h>\n#include \"../pure/conn.h\"\n # include \"../take/take.h\"\n", may); !slices.Equal(got, []string{"../take/take.h"}) {
		t.Errorf("%v", got)
	}
	body := strings.Repeat("\tx();\n", longest)
	if got := tooLong("int a(void)\n{\n" + body + "}\n\nint b(void)\n{\n" + body + "\tx();\n}\n"); !slices.Equal(got, []string{"int b(void)"}) {
		t.Errorf("%v", got)
	}
	if got := silent("SEC(\"tc\")\nint a(void)\n{\n\treturn exit_for(x, TC_DROP);\n}\n\nSEC(\"xdp\")\nint b(void)\n{\n\treturn leave(x, y());\n}\n\nint c(void)\n{\n\treturn TC_DROP;\n}\n"); !slices.Equal(got, []string{"return TC_DROP", "a"}) {
		t.Errorf("%v", got)
	}
}
