package refusal

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestMeanings: those of docs/METRICS.md, word for word.
func TestMeanings(t *testing.T) {
	b, err := os.ReadFile("../../docs/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, part, _ := strings.Cut(string(b), "## What clients are refused")
	part, _, _ = strings.Cut(part, "\n## ")
	docs := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (.*) \\|$").FindAllStringSubmatch(part, -1) {
		docs[m[1]] = strings.ReplaceAll(m[2], "`", "")
	}
	if len(docs) == 0 {
		t.Fatal("no Meanings in docs/METRICS.md: the test tests nothing")
	}
	for name, meaning := range docs {
		if Meanings[name] != meaning {
			t.Errorf("%s is %q, in docs/METRICS.md %q", name, Meanings[name], meaning)
		}
	}
	for name := range Meanings {
		if docs[name] == "" {
			t.Errorf("%s is not in docs/METRICS.md", name)
		}
	}
}
