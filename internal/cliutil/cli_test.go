package cliutil

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// show is a command that says what it was called with.
func show(name string, flags ...cli.Flag) *cli.Command {
	return &cli.Command{Name: name, ArgsUsage: "WORD...", Flags: flags, Action: func(c *cli.Context) error {
		fmt.Fprintf(c.App.Writer, "%s o=%s all=%v n=%d %q", c.Command.Name, c.String("output"), c.Bool("all"), c.Int("n"), c.Args().Slice())
		return nil
	}}
}

func run(line string) (code int, stdout, stderr string) {
	flags := func() []cli.Flag {
		return []cli.Flag{&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table"}, &cli.BoolFlag{Name: "all"}, &cli.IntFlag{Name: "n"}}
	}
	routes := show("routes", flags()[0])
	routes.ArgsUsage = ""
	routes.Subcommands = []*cli.Command{show("test", flags()...)}
	strict := show("strict", &cli.StringFlag{Name: "config", Aliases: []string{"c"}, Required: true})
	group := &cli.Command{Name: "letters", Usage: "of many", Subcommands: []*cli.Command{show("list")}}
	app := &cli.App{Name: "prog", Usage: "try", Commands: []*cli.Command{show("pods", flags()...), routes, group, strict}}
	var out, errs bytes.Buffer
	code = Run(context.Background(), app, strings.Fields(line), &out, &errs)
	return code, out.String(), errs.String()
}

// TestFlagsMayStandAnywhere: before and behind arguments, and before sub-commands.
func TestFlagsMayStandAnywhere(t *testing.T) {
	for line, want := range map[string]string{
		"prog pods a b":                           `pods o=table all=false n=0 ["a" "b"]`,
		"prog pods -o json a b":                   `pods o=json all=false n=0 ["a" "b"]`,
		"prog pods a -o json b":                   `pods o=json all=false n=0 ["a" "b"]`,
		"prog pods a b --output=json --all":       `pods o=json all=true n=0 ["a" "b"]`,
		"prog pods a --all b":                     `pods o=table all=true n=0 ["a" "b"]`,
		"prog pods a --all=false b":               `pods o=table all=false n=0 ["a" "b"]`,
		"prog pods a -- -o json":                  `pods o=table all=false n=0 ["a" "-o" "json"]`,
		"prog pods -- a -o":                       `pods o=table all=false n=0 ["a" "-o"]`,
		"prog pods a - b":                         `pods o=table all=false n=0 ["a" "-" "b"]`,
		"prog pods a -n -1":                       `pods o=table all=false n=-1 ["a"]`,
		"prog strict a -c x":                      `strict o= all=false n=0 ["a"]`,
		"prog pods routes -o json":                `pods o=json all=false n=0 ["routes"]`,
		"prog routes test a -o json":              `test o=json all=false n=0 ["a"]`,
		"prog routes -o json test a":              `test o=json all=false n=0 ["a"]`,
		"prog routes -o yaml test a -o json":      `test o=json all=false n=0 ["a"]`,
		"prog routes test a --all -o json -n 3 b": `test o=json all=true n=3 ["a" "b"]`,
		"prog routes -o json":                     `routes o=json all=false n=0 []`,
	} {
		if code, stdout, stderr := run(line); code != ExitOK || stdout != want || stderr != "" {
			t.Errorf("%s: exit %d, %s%s, want %s", line, code, stdout, stderr, want)
		}
	}
}

func TestWrongFlagsAreRefusedAnywhere(t *testing.T) {
	for line, want := range map[string]string{
		"prog pods a --speed":   "not defined: -speed",
		"prog pods a -o":        "needs an argument",
		"prog --all pods":       "not defined: -all",
		"prog routes --all":     "not defined: -all",
		"prog routes a -o json": `routes takes no argument "a"`,
		"prog pots -o json":     "not defined: -o",
		"prog pots":             `no command "pots"`,
		"prog strict a":         "missing: --config",
		"prog letters lost":     `no command "lost"; see prog letters --help`,
	} {
		code, stdout, stderr := run(line)
		if code != ExitUsage || stdout != "" || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, %q, %q, want 2 and one line with %q", line, code, stdout, stderr, want)
		}
	}
}

func TestVersionAndHelp(t *testing.T) {
	for line, want := range map[string]string{
		"prog --version":                         "prog version ",
		"prog -v":                                "prog version ",
		"prog --help":                            "prog - try",
		"prog help pods":                         "prog pods",
		"prog pods --help":                       "prog pods",
		"prog letters":                           "prog letters - of many",
		"prog letters list a":                    "list o=",
		"prog pods a -h":                         "prog pods",
		"prog pods a --generate-bash-completion": "",
	} {
		if code, stdout, stderr := run(line); code != ExitOK || !strings.Contains(stdout, want) || stderr != "" {
			t.Errorf("%s: exit %d, %q, %q, want %q", line, code, stdout, stderr, want)
		}
	}
}
