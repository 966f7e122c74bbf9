package netns

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"eproxy/test/lib/lab"
)

// command runs one of the binaries, here: nothing of this needs the lab.
func command(t *testing.T, name string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(filepath.Join(bin, name), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// TestUsage: who calls a command wrongly gets one line, with exit code 2.
func TestUsage(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"loader rnu", `no command "rnu"`},
		{"loader --config f", "not defined: -config"},
		{"loader run", "missing: --config"},
		{"loader run --config", "needs an argument"},
		{"loader run --config f --log-level loud", `--log-level "loud": must be debug, info, warn or error`},
		{"loader run --config f eth0", `run takes no argument "eth0"`},
		{"loader check", "missing: --config"},
		{"loader check f", "missing: --config"},
		{"loader check --config f g", `check takes no argument "g"`},
		{"loader status -o xml", `-o "xml": must be table, json or yaml`},
		{"loader status all", `status takes no argument "all"`},
		{"loader doctor eth0", `doctor takes no argument "eth0"`},
		{"loader unload eth0", `unload takes no argument "eth0"`},
		{"mapsctl route", `no command "route"`},
		{"mapsctl routes -x", "not defined: -x"},
		{"mapsctl routes all", `routes takes no argument "all"`},
		{"mapsctl slots -o xml", `-o "xml": must be table, json or yaml`},
		{"mapsctl routes test", "takes one TOPIC"},
		{"mapsctl routes test a b", "takes one TOPIC"},
		{"mapsctl routes test a/+", `topic "a/+": topic name contains a wildcard`},
		{"mapsctl trace --topic a/#/b", `topic "a/#/b"`},
		{"mapsctl trace --sample 2", "sample 2: must be above 0, and at most 1"},
		{"mapsctl trace -o yaml", `-o "yaml": must be table or json`},
		{"mapsctl trace all", `trace takes no argument "all"`},
		{"mapsctl top --interval 1ms", "--interval 1ms: must be at least 100ms"},
		{"mapsctl top all", `top takes no argument "all"`},
		{"mapsctl explain", "missing: --client, --topic"},
		{"mapsctl explain --client c --topic a/#", `topic "a/#": topic name contains a wildcard`},
		{"mapsctl explain --client c --topic a --qos 3", "--qos 3: must be 0, 1 or 2"},
		{"mapsctl explain --client c --topic a --size -1", "--size -1: must not be negative"},
		{"userspace-fallback", "missing: --config"},
		{"userspace-fallback run", "missing: --config"},
		{"userspace-fallback --config f g", `userspace-fallback takes no argument "g"`},
		{"userspace-fallback --xdp", "not defined: -xdp"},
		{"userspace-fallback --config f --log-level loud", `--log-level "loud"`},
	} {
		words := strings.Fields(c.line)
		code, _, stderr := command(t, words[0], words[1:]...)
		if code != 2 || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, words[0]+": ") || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit %d, %q, want 2 and one line with %q", c.line, code, stderr, c.want)
		}
	}
}

// TestCheckNamesAllErrors: loader check names all errors of a file at once, each with its
// line, by line; and run refuses the file with the same words.
func TestCheckNamesAllErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "wrong.yaml")
	if err := os.WriteFile(file, []byte(`interfaces: [eth0]
xdp: fast
functions:
  - name: temp
    url: ftp://temp.local/ingest
    pods: [10.88.1.2]
    concurrency: 65
routes:
  - topic: sensors/#/temp
    function: temp
  - topic: news/#
    function: tmp
  - topic: $share/g/news/#
    function: temp
`), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []string{`:2: xdp "fast"`, `:5: function "temp": url "ftp://temp.local/ingest"`, `:6: function "temp": pod "10.88.1.2"`, `:7: function "temp": concurrency 65`,
		`:9: route "sensors/#/temp"`, `:12: route "news/#": unknown function "tmp"`, `:13: route "$share/g/news/#" is a duplicate of line 11`}
	code, stdout, stderr := command(t, "loader", "check", "--config", file)
	lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
	if code != 1 || stdout != "" || len(lines) != len(want) {
		t.Fatalf("exit %d, %q, %d lines, want 1 and %d:\n%s", code, stdout, len(lines), len(want), stderr)
	}
	for i, w := range want {
		if !strings.HasPrefix(lines[i], "loader: "+file+w) {
			t.Errorf("%q, want %q", lines[i], "loader: "+file+w)
		}
	}
	if code, _, again := command(t, "loader", "run", "--config", file); code != 1 || again != stderr {
		t.Errorf("run: exit %d: %s", code, again)
	}
}

// TestNothingPinned: mapsctl says what is missing and what to do, in one line.
func TestNothingPinned(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pins")
	want := fmt.Sprintf("mapsctl: eproxy is not loaded: no pins under %s; start it with loader run\n", dir)
	for _, noun := range []string{"routes", "functions", "pods", "slots", "flows", "metrics", "reasons", "routes test"} {
		for _, form := range []string{"table", "json"} {
			args := strings.Fields(noun)
			if noun == "routes test" {
				args = append(args, "sensors/1/temp") // flags may stand behind it
			}
			args = append(args, "--bpffs", dir, "-o", form)
			if code, stdout, stderr := command(t, "mapsctl", args...); code != 1 || stdout != "" || stderr != want {
				t.Errorf("%s: exit %d, %q, %q, want 1 and %q", noun, code, stdout, stderr, want)
			}
		}
	}
	if code, stdout, stderr := command(t, "loader", "status", "--bpffs", dir); code != 0 || !strings.Contains(stdout, "not pinned") || stderr != "" {
		t.Errorf("loader status: exit %d, %q, %q", code, stdout, stderr)
	}
}

// TestCheckWarnsOfReadableHashes: a file with password hashes is nobody's
// business but root's.
func TestCheckWarnsOfReadableHashes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "eproxy.yaml")
	text := "interfaces: [eth0]\n" + podConfig(routeConfig, false) + "auth: {users: [{username: dev, password_hash: $2a$04$0123456789012345678901uTQ8cE9ZKvK6oD1Gm8bRkOUnsxkYyqm}]}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, warn := range map[os.FileMode]bool{0o600: false, 0o644: true} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := command(t, "loader", "check", "--config", file)
		if code != 0 || strings.Contains(stderr, "warning: every user of this host can read the password hashes in "+file) != warn {
			t.Errorf("mode %v: exit code %d, %s%s", mode, code, stdout, stderr)
		}
	}
}

// TestVersionOfBinaries: all binaries say from which sources they were built, unless make
// build was not told.
func TestVersionOfBinaries(t *testing.T) {
	for _, b := range []string{"loader", "mapsctl", "userspace-fallback"} {
		code, stdout, stderr := command(t, b, "--version")
		if code != 0 || !strings.HasPrefix(stdout, b+" version ") || !strings.Contains(stdout, "(revision ") || strings.Count(stdout, "\n") != 1 || stderr != "" {
			t.Errorf("%s: exit %d, %q, %q", b, code, stdout, stderr)
		}
	}
}

// TestEmptyConfiguration: every program says what it is missing.
func TestEmptyConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "empty.yaml")
	if err := os.WriteFile(file, []byte("# nothing yet\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const interfaces, functions = ":1: no interfaces: ", ":1: no functions: "
	for line, want := range map[string][]string{"loader check": {interfaces, functions}, "loader run": {interfaces, functions}, "loader doctor": {interfaces, functions}, "userspace-fallback": {functions}} {
		words := append(strings.Fields(line), "--config", file)
		code, stdout, stderr := command(t, words[0], words[1:]...)
		if code != 1 || stdout != "" || strings.Count(stderr, "\n") != len(want) {
			t.Errorf("%s: exit %d, %q, %q, want 1 and %d lines", line, code, stdout, stderr, len(want))
		}
		for _, w := range want {
			if !strings.Contains(stderr, words[0]+": "+file+w) {
				t.Errorf("%s: %q, want %q", line, stderr, w)
			}
		}
	}
}

// TestCheckWarns: a file may be checked on another machine than it is for.
func TestCheckWarns(t *testing.T) {
	file := filepath.Join(t.TempDir(), "other.yaml")
	if err := os.WriteFile(file, []byte(`xdp: native
interfaces:
  - lo
  - eth999
functions:
  - {name: temp, url: "http://temp.local/ingest", pods: [10.2.0.2:8080, 10.2.0.3:8080]}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := file + `:4: interface "eth999" does not exist on this machine` + "\n"
	want := "loader: warning: " + file + `:3: interface "lo" is not Ethernet: the loader does not start with it` + "\n" +
		"loader: warning: " + missing + "loader: warning: " + file + ": no routes: no message goes to a function\n"
	if code, stdout, stderr := command(t, "loader", "check", "--config", file); code != 0 || !strings.Contains(stdout, ": ok, 1 functions") || stderr != want {
		t.Errorf("check: exit %d, %q, %q, want 0 and %q", code, stdout, stderr, want)
	}
	if code, _, stderr := command(t, "loader", "run", "--config", file); code != 1 || stderr != "loader: "+missing {
		t.Errorf("run: exit %d, %q, want 1 and %q", code, stderr, missing)
	}
}

// TestCheckWarnsOfTheMTU: native XDP may not run with a large MTU.
func TestCheckWarnsOfTheMTU(t *testing.T) {
	l := newLab(t)
	if err := l.Do(lab.Node, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkSetMTU(eth0, 9000)
	}); err != nil {
		t.Fatal(err)
	}
	for xdp, warns := range map[string]bool{"native": true, "auto": false, "off": false} {
		file := filepath.Join(t.TempDir(), "eproxy.yaml")
		if err := os.WriteFile(file, []byte("interfaces: [eth0]\nxdp: "+xdp+"\n"+podConfig(routeConfig, false)), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out := loader(t, l, "check", "--config", file)
		if code != 0 || strings.Contains(out, file+`:1: interface "eth0" has an MTU of 9000`) != warns {
			t.Errorf("xdp: %s: exit %d, %s", xdp, code, out)
		}
	}
}
