package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// TestGeneratedFilesAreFresh fails when the committed files are not what the headers say.
func TestGeneratedFilesAreFresh(t *testing.T) {
	files, err := Generate("../..")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is stale: run make generate (%v)", name, err)
		}
	}
}

// TestEnumerators: the numbers are indexes of what Go prints, so none may be
// missing, and every reason says what it means.
func TestEnumerators(t *testing.T) {
	const good = "enum reason {\n\tREASON_A = 0, /* a */\n\tREASON_B = 1, /* b, c */\n\tREASON_COUNT = 2,\n};\n"
	es, err := enumerators([]byte(good), "reason")
	if err != nil || len(es) != 2 || es[1] != (entry{"1", "b", "b, c"}) {
		t.Fatalf("%v, %v", es, err)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"number skipped":      {"REASON_B = 1", "REASON_B = 2", `REASON_B has number "2", the next one is 1`},
		"number twice":        {"REASON_B = 1", "REASON_B = 0", "the next one is 1"},
		"no number":           {"REASON_B = 1", "REASON_B", "the next one is 1"},
		"count wrong":         {"COUNT = 2", "COUNT = 3", "REASON_COUNT has number"},
		"no count":            {"\tREASON_COUNT = 2,\n", "", "does not end with REASON_COUNT"},
		"two in a line":       {"/* a */\n", "/* a */", "the next one is 1"},
		"comment goes on":     {"/* b, c */", "/* b,\n * c */", "the next one is 1"},
		"of another family":   {"REASON_B", "OTHER_B", "does not begin with REASON_"},
		"another enum's name": {"enum reason", "enum reasons", "no enum reason"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := enumerators([]byte(strings.Replace(good, c.old, c.new, 1)), "reason"); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// TestUndescribed: a reason without description is refused.
func TestUndescribed(t *testing.T) {
	root := t.TempDir()
	if err := os.CopyFS(root+"/bpf", os.DirFS("../../bpf")); err != nil {
		t.Fatal(err)
	}
	const reasons = "/bpf/abi/abi_reason.h"
	b, err := os.ReadFile(root + reasons)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte("REASON_MALFORMED = 22,"))
	end := at + bytes.IndexByte(b[at:], '\n')
	b = append(append(bytes.Clone(b[:at]), "REASON_MALFORMED = 22,"...), b[end:]...)
	if err := os.WriteFile(root+reasons, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Generate(root); err == nil || !strings.Contains(err.Error(), "REASON_MALFORMED has no description") {
		t.Errorf("error %v", err)
	}
}
