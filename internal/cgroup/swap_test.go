package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

// TestAllowSwap: only cgroup v2 limits swap by itself, and where nothing accounts for it there is nothing to say.
func TestAllowSwap(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "x", "memory.swap.max")
	for _, v2 := range []bool{true, false} {
		h := &Hierarchies{controllers: map[string]hierarchy{Memory: {root, v2}}}
		if err := h.At("x").AllowSwap(4096); err != nil {
			t.Errorf("v2 %v, without the file: %v", v2, err)
		}
	}
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		v2   bool
		want string
	}{{false, "max\n"}, {true, "4096"}} {
		if err := os.WriteFile(file, []byte("max\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		h := &Hierarchies{controllers: map[string]hierarchy{Memory: {root, c.v2}}}
		if err := h.At("x").AllowSwap(4096); err != nil {
			t.Fatal(err)
		}
		if b, _ := os.ReadFile(file); string(b) != c.want {
			t.Errorf("v2 %v: %q, want %q", c.v2, b, c.want)
		}
	}
}
