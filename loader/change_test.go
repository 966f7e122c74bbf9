package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"eproxy/internal/config"
	"eproxy/internal/edit"
)

// example is the configuration that the documentation shows, in a file of the test's own.
func example(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "eproxy.yaml")
	if err := os.WriteFile(file, text, 0o640); err != nil {
		t.Fatal(err)
	}
	return file
}

func contents(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSave: a saved change is in the file, also behind a symbolic link, with its
// permissions; what the file says already is not written again.
func TestSave(t *testing.T) {
	file := example(t)
	link := filepath.Join(t.TempDir(), "link.yaml")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	add := edit.AddPod("temp", "10.2.0.9:8080", false)
	for range 2 {
		p, err := prepareSave(link, add)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(p.commit(), p.sync()); err != nil {
			t.Fatal(err)
		}
		p.discard()
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v (%v)", info.Mode(), err)
	}
	if text := contents(t, file); bytes.Count(text, []byte("10.2.0.9:8080")) != 1 {
		t.Errorf("saved is\n%s", text)
	}
}

// TestSaveLosesNothing: what somebody else has written while a change was made is not
// replaced, whether he wrote into the file or put another in its place; nothing is left beside it.
func TestSaveLosesNothing(t *testing.T) {
	for name, write := range map[string]func(file string, text []byte) error{
		"in place": func(file string, text []byte) error { return os.WriteFile(file, text, 0o640) },
		"renamed": func(file string, text []byte) error {
			return errors.Join(os.WriteFile(file+".other", text, 0o640), os.Rename(file+".other", file))
		},
	} {
		file := example(t)
		p, err := prepareSave(file, edit.PauseFunction("temp", true))
		if err != nil {
			t.Fatal(err)
		}
		other := append(contents(t, file), "# by somebody else\n"...)
		if err := write(file, other); err != nil {
			t.Fatal(err)
		}
		err = p.commit()
		if !errors.Is(err, errChanged) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
		p.discard()
		if !bytes.Equal(contents(t, file), other) {
			t.Errorf("%s: the other's text is lost", name)
		}
		if left, _ := filepath.Glob(file + "*"); len(left) != 1 {
			t.Errorf("%s: left are %v", name, left)
		}
	}
}

// TestSamePlan: pods alone are followed pod by pod; whatever else has changed, routes and
// functions of resources among it, is installed as a whole.
func TestSamePlan(t *testing.T) {
	read := func(change ...edit.Change) *config.Config {
		file := example(t)
		text := contents(t, file)
		for _, c := range change {
			var err error
			if text, err = edit.Apply(text, c); err != nil {
				t.Fatal(err)
			}
		}
		cfg, err := config.Parse(file, text)
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	before := read()
	pods := read(edit.AddPod("temp", "10.2.0.9:8080", false), edit.DrainPod("temp", "10.2.0.2:8080"), edit.PauseFunction("temp", true))
	if !samePlan(before, pods) {
		t.Error("pods make another plan")
	}
	if samePlan(before, read(edit.AddRoute("x/#", "temp"))) {
		t.Error("one more route makes no other plan")
	}
	if samePlan(before, before.With([]*config.Function{{Name: "of/resource"}}, nil)) {
		t.Error("a resource's function makes no other plan")
	}
	other := read()
	other.Functions[0].Timeout++
	if samePlan(before, other) {
		t.Error("another timeout makes no other plan")
	}
}
