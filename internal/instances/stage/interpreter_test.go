package stage

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestInterpreted: which commands a zygote can be made of, and what its interpreter is told.
func TestInterpreted(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("PATH", dir)
	python := write("python3", "")
	script := write("script", "#!"+python+" -I\n")
	env := write("env-script", "#!/usr/bin/env -S python3 -u\nx")
	for _, c := range []struct {
		path    string
		command []string
		want    string // words, or what is wrong
	}{
		{python, []string{"python3", "app.py", "-x"}, "python3 script app.py -x"},
		{python, []string{"python3", "-u", "-OO", "-W", "error", "-Xutf8", "app.py"}, "python3 -u -OO -W error -X utf8 script app.py"},
		{python, []string{"python3", "-m", "pkg", "-m"}, "python3 -m pkg -m"},
		{python, []string{"python3", "-mpkg"}, "python3 -m pkg"},
		{python, []string{"python3", "-Bmpkg"}, "python3 -B -m pkg"},
		{python, []string{"python3", "-c", "code", "x"}, "python3 -c code x"},
		{script, []string{"script", "a"}, python + " -I script " + script + " a"},
		{env, []string{"env-script"}, "python3 -u script " + env},
		{python, []string{"python3"}, `command "python3": it runs no program`},
		{python, []string{"python3", "-"}, `command "python3": "-" runs no program that a zygote could`},
		{python, []string{"python3", "--version"}, `command "python3": "--version" runs no program that a zygote could`},
		{python, []string{"python3", "-c"}, `command "python3": option "-c" of the interpreter has no value`},
		{python, []string{"python3", "-i", "app.py"}, `command "python3": option "-i" of the interpreter: a zygote cannot have it`},
		{python, []string{"python3", "--check-hash-based-pycs", "always", "app.py"}, `command "python3": option "--check-hash-based-pycs" of the interpreter: a zygote cannot have it`},
		{write("node", "\x7fELF"), []string{"node", "app.js"}, `command "node" is no Python interpreter, and no script of one`},
		{write("shell", "#!/bin/sh\n"), []string{"shell"}, `command "shell" is no Python interpreter, and no script of one`},
		{write("bare", "#!\n"), []string{"bare"}, `command "bare" is no Python interpreter, and no script of one`},
		{write("lost", "#! /usr/bin/env python3.99\n"), []string{"lost"}, `command "python3.99": executable file not found in $PATH`},
		{filepath.Join(dir, "gone"), []string{"gone"}, `command "gone": is no Python interpreter, and no script of one`},
		{write("long", "#!"+strings.Repeat("x", 1000)+"/python3\n"), []string{"long"}, `command "long" is no Python interpreter, and no script of one`},
	} {
		_, argv, err := interpreted(c.path, c.command)
		if at := slices.Index(argv, reads); at > 0 { // and -c before it
			argv = slices.Delete(argv, at-1, at+1)
		}
		got := strings.Join(argv, " ")
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%q: %s, want %s", c.command, got, c.want)
		}
	}
}
