package main

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
)

// TestNumbers: no command measures with a number or a time that is less than 0, or is 0 where that says nothing; what it has by default is taken.
func TestNumbers(t *testing.T) {
	all := append(commands(), &cli.Command{Flags: flags()})
	checks := 0
	for _, command := range all {
		args := []string{"bench", command.Name}
		if command.Name == "" {
			args = args[:1]
		}
		for _, f := range command.Flags {
			if r, ok := f.(cli.RequiredFlag); ok && r.IsRequired() {
				args = append(args, "--"+f.Names()[0], "x")
			}
		}
		if code, said := measured(t, args); code != cliutil.ExitOK {
			t.Errorf("%v: %s", args, said)
		}
		for _, f := range command.Flags {
			switch f.(type) {
			case *cli.IntFlag, *cli.Float64Flag, *cli.DurationFlag:
			default:
				continue
			}
			name := f.Names()[0]
			unit := ""
			if _, ok := f.(*cli.DurationFlag); ok {
				unit = "s"
			}
			for _, value := range []string{"-1", "0"} {
				want := cliutil.ExitUsage
				if value == "0" && slices.Contains(mayBeZero, name) {
					want = cliutil.ExitOK
				}
				with := append(slices.Clone(args), "--"+name, value+unit)
				code, said := measured(t, with)
				if code != want || want != cliutil.ExitOK && (!strings.Contains(said, "--"+name+" "+value+unit) || strings.Count(said, "\n") != 1) {
					t.Errorf("%v: code %d, want %d: %s", with, code, want, said)
				}
				checks++
			}
		}
	}
	if checks < 2*30 {
		t.Errorf("only %d values were tried", checks)
	}
}

// measured is what bench does when a command line calls one of its commands, which measures nothing.
func measured(t *testing.T, args []string) (code int, said string) {
	t.Helper()
	all := commands()
	nothing := func(*cli.Context) error { return nil }
	for _, c := range all {
		c.Action = nothing
	}
	var b bytes.Buffer
	code = cliutil.Run(t.Context(), app(all, nothing), args, io.Discard, &b)
	return code, b.String()
}
