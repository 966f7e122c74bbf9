package markdown

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestBlocksAndProse(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a.md")
	text := "a `b` and `c\nd`\n\n<!-- docs: part -->\n```yaml\nx: `1`\n```\n`e`\n```sh\nsudo make x  # why\n# no\n\nbin/y --z\n```\n"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Read(name)
	if err != nil {
		t.Fatal(err)
	}
	if want := []Span{{1, "b"}, {1, "c d"}, {8, "e"}}; !reflect.DeepEqual(d.Spans, want) {
		t.Errorf("spans %v, want %v", d.Spans, want)
	}
	if len(d.Blocks) != 2 || d.Blocks[0] != (Block{5, "yaml", Part, "x: `1`\n"}) {
		t.Fatalf("blocks %+v", d.Blocks)
	}
	if got, want := d.Blocks[1].Commands(), []Span{{10, "make x"}, {13, "bin/y --z"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("commands %v, want %v", got, want)
	}
	if err := os.WriteFile(name, []byte("```\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(name); err == nil {
		t.Error("a block without an end was accepted")
	}
}

func TestAlternatives(t *testing.T) {
	got := Alternatives([]string{"a|b", "[c]", "d"})
	if want := [][]string{{"a", "c", "d"}, {"b", "c", "d"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
