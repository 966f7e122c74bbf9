// Package commands tries what people type.
package commands

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
)

// Try runs each command of a program that no loader belongs to, with wrong arguments and with none: each says in lines that begin
// with the program's name what is wrong, or shows help, and ends with a code that says which. Those in but are not run
// without arguments: they would do something.
func Try(t *testing.T, app func() *cli.App, but ...string) {
	t.Helper()
	tried := 0
	for _, words := range paths(app().Commands, nil) {
		name := strings.Join(words, " ")
		for _, args := range [][]string{nil, {"--nonsense"}, {"--output"}, {"one", "two", "three", "four"}, {"\x1b[1m"}, {""}} {
			if args == nil && slices.Contains(but, name) {
				continue
			}
			tried++
			a := app()
			line := slices.Concat([]string{a.Name}, words, args)
			var out, errs bytes.Buffer
			code := cliutil.Run(t.Context(), a, line, &out, &errs)
			said := errs.String()
			switch {
			case code == cliutil.ExitOK && (said != "" || args != nil && !strings.Contains(out.String(), "USAGE")):
				t.Errorf("%q: exit 0, %q", line, said)
			case code != cliutil.ExitOK && code != cliutil.ExitFailed && code != cliutil.ExitUsage:
				t.Errorf("%q: exit %d", line, code)
			case code == cliutil.ExitUsage && (out.Len() > 0 || strings.Count(said, "\n") != 1):
				t.Errorf("%q: exit %d, and more than one line: %q%q", line, code, out.String(), said)
			case code != cliutil.ExitOK && said == "":
				t.Errorf("%q: exit %d, and nothing is said", line, code)
			}
			for l := range strings.Lines(said) {
				if !strings.HasPrefix(l, a.Name+": ") || strings.Contains(l, "\x1b") || strings.Contains(l, "*errors.") {
					t.Errorf("%q: %q", line, l)
				}
			}
		}
	}
	if tried < 20 {
		t.Errorf("%d lines were tried", tried)
	}
}

// paths are all commands, with those above them.
func paths(commands []*cli.Command, above []string) (out [][]string) {
	for _, c := range commands {
		words := append(slices.Clone(above), c.Name)
		out = append(append(out, words), paths(c.Subcommands, words)...)
	}
	return out
}
