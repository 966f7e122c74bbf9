package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStatistics(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bpf_stats_enabled")
	for text, want := range map[string]string{"0\n": "off (", "1\n": "on ("} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if f := statistics(file); f.State != Used || !strings.HasPrefix(f.Detail, want) {
			t.Errorf("%q: %s: %s, want %s", text, f.State, f.Detail, want)
		}
	}
	if f := statistics(filepath.Join(t.TempDir(), "none")); f.State != Degraded {
		t.Errorf("a kernel without the sysctl: %s: %s", f.State, f.Detail)
	}
}
