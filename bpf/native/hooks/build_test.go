//go:build cgo

package hooks

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// edit is a replacement in one of the programs' sources.
type edit struct{ file, old, new string }

const sources = "../.."

// The folders of the programs, and of the machine with its stand-ins for libbpf's headers.
var (
	folders = []string{"abi", "pure", "mech", "work", "admit", "route", "request", "upstream", "reply", "trace", "take", "xdp", "tc", "control"}
	machine = []string{"machine.h", "machine/*.[ch]", "machine/bpf/*.h"}
)

// build compiles the machine with the programs, as they are or edited. All is
// copied, also so that the go tool knows what the test depends on.
func build(dir string, edits ...edit) (*Machine, error) {
	if err := copySources(dir, edits); err != nil {
		return nil, err
	}
	so := filepath.Join(dir, "machine.so")
	objects := []string{"-shared", "-Wl,-z,defs", "-Wl,-Bsymbolic", "-o", so}
	for _, name := range []string{"datapath", "memory", "sched", "packet", "steps"} {
		o := filepath.Join(dir, name+".o")
		args := []string{"-c", "-fPIC", "-I" + dir + "/machine", "-I" + dir, "-I" + dir + "/abi", "-o", o,
			filepath.Join(dir, "machine", name+".c")}
		if name == "datapath" {
			args = append(args, "-O1", "-w", "-fsanitize=thread")
		} else {
			args = append(args, "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter")
		}
		if err := cc(args...); err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	if err := cc(objects...); err != nil {
		return nil, err
	}
	return Open(so)
}

func cc(args ...string) error {
	name := os.Getenv("CC")
	if name == "" {
		name = "cc"
	}
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

func copySources(dir string, edits []edit) error {
	files := map[string]string{"eproxy.bpf.c": filepath.Join(sources, "eproxy.bpf.c")}
	for _, f := range folders {
		names, _ := filepath.Glob(filepath.Join(sources, f, "*.[hc]"))
		for _, n := range names {
			files[filepath.Join(f, filepath.Base(n))] = n
		}
	}
	for _, pattern := range machine {
		names, _ := filepath.Glob(pattern)
		for _, n := range names {
			files[n] = n
		}
	}
	for to, from := range files {
		b, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		s, err := apply(to, string(b), edits)
		if err != nil {
			return err
		}
		to = filepath.Join(dir, to)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, []byte(s), 0o644); err != nil {
			return err
		}
	}
	for _, e := range edits {
		if files[e.file] == "" {
			return fmt.Errorf("%s does not exist", e.file)
		}
	}
	return nil
}

func apply(file, s string, edits []edit) (string, error) {
	for _, e := range edits {
		if e.file != file {
			continue
		}
		if n := strings.Count(s, e.old); n != 1 {
			return "", fmt.Errorf("%s: %q occurs %d times", e.file, e.old, n)
		}
		s = strings.Replace(s, e.old, e.new, 1)
	}
	return s, nil
}

func mustBuild(t testing.TB, edits ...edit) *Machine {
	t.Helper()
	m, err := build(t.TempDir(), edits...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
