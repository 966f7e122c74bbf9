package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadableHashesAreWarnedOf: a file with password hashes that everybody can
// read is warned of, and no other.
func TestReadableHashesAreWarnedOf(t *testing.T) {
	users := good + "auth: {users: [{username: dev, password_hash: $2a$04$0123456789012345678901uTQ8cE9ZKvK6oD1Gm8bRkOUnsxkYyqm}]}\n"
	for _, c := range []struct {
		text string
		mode os.FileMode
		warn bool
	}{{good + "auth: {password_file: FILE}\n", 0o644, true}, {good + "auth: {jwt: {secret_file: FILE}}\n", 0o644, true}, {good + "auth: {jwt: {jwks_file: FILE}}\n", 0o644, false},
		{good + "metrics: {listen: \":1\", page: true, token_file: FILE}\n", 0o644, true}, {good + "metrics: {listen: \":1\", page: true, token_file: FILE}\n", 0o640, false},
		{users, 0o644, true}, {users, 0o640, false}, {good, 0o644, false}} {
		file := filepath.Join(t.TempDir(), "eproxy.yaml")
		if err := os.WriteFile(file, []byte(strings.Replace(c.text, "FILE", file, 1)), c.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, c.mode); err != nil { // whatever the umask is
			t.Fatal(err)
		}
		cfg, err := Load(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(cfg.Exposed(file), "; "); (got != "") != c.warn || c.warn && !strings.Contains(got, file) {
			t.Errorf("mode %v, %d users: %q", c.mode, len(cfg.Auth.Users), got)
		}
	}
}

// TestUntrustedDirectories: a file that says what is run counts only where nobody else can put another one in its place.
func TestUntrustedDirectories(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "etc", "eproxy")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file, link := filepath.Join(dir, "eproxy.yaml"), filepath.Join(top, "link.yaml")
	if err := os.WriteFile(file, []byte("functions: [{name: f, url: \"http://f/\", run: {command: [a]}}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	cfg, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dir  string
		mode os.FileMode
		ok   bool
	}{{dir, 0o755, true}, {dir, 0o775, false}, {dir, 0o757, false}, {dir, 0o777 | os.ModeSticky, true}, {filepath.Dir(dir), 0o777, false}, {top, 0o777, false}} {
		if err := os.Chmod(c.dir, c.mode); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{file, link} {
			if err := cfg.Untrusted(name); (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), c.dir) {
				t.Errorf("%s in %s of mode %v: %v", name, c.dir, c.mode, err)
			}
		}
		if err := os.Chmod(c.dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}
