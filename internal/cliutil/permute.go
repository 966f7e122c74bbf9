package cliutil

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// permute puts flags before arguments, as getopt_long(3) does, for a library that
// reads none behind the first argument. A flag that stands before a sub-command
// goes to the sub-command if that has it. Nothing behind "--" is a flag.
func permute(app *cli.App, args []string) []string {
	if len(args) == 0 || slices.Contains(args, "--generate-bash-completion") {
		return args
	}
	p := permutation{out: args[:1:1], has: app.Flags, commands: app.Commands}
	for rest := args[1:]; len(rest) > 0; {
		rest = p.word(rest)
	}
	p.out = append(p.out, p.flags...)
	if slices.ContainsFunc(p.arguments, func(a string) bool { return strings.HasPrefix(a, "-") }) {
		p.out = append(p.out, "--")
	}
	return append(p.out, p.arguments...)
}

// permutation is a command line on its way.
type permutation struct {
	out       []string // commands, and flags that are theirs
	flags     []string // with their values, of the command that was read last
	arguments []string
	has       []cli.Flag     // the flags of that command
	commands  []*cli.Command // and its sub-commands
}

// word reads one word, or a flag with its value, and returns the others.
func (p *permutation) word(rest []string) []string {
	w := rest[0]
	switch {
	case w == "--":
		p.arguments = append(p.arguments, rest[1:]...)
		return nil
	case len(w) > 1 && w[0] == '-':
		n := flagWords(p.has, w)
		if n > len(rest) || isHelp(w) { // an argument would be taken for the value, or for the topic
			p.flags, p.arguments = append(p.flags, w), nil
			return nil
		}
		p.flags = append(p.flags, rest[:n]...)
		return rest[n:]
	}
	c := find(p.commands, w)
	if c == nil || len(p.arguments) > 0 {
		p.arguments = append(p.arguments, w)
		return rest[1:]
	}
	p.enter(c, w)
	return rest[1:]
}

// enter goes on with a sub-command.
func (p *permutation) enter(c *cli.Command, name string) {
	var mine []string
	for f := p.flags; len(f) > 0; {
		n := flagWords(p.has, f[0])
		if lookup(p.has, f[0]) == nil || lookup(c.Flags, f[0]) == nil {
			p.out = append(p.out, f[:n]...)
		} else {
			mine = append(mine, f[:n]...)
		}
		f = f[n:]
	}
	p.out = append(p.out, name)
	p.flags, p.has, p.commands = mine, c.Flags, c.Subcommands
}

// flagWords is how many words a flag is: two if its value is the next.
func flagWords(flags []cli.Flag, word string) int {
	if f, ok := lookup(flags, word).(cli.DocGenerationFlag); ok && f.TakesValue() && !strings.Contains(word, "=") {
		return 2
	}
	return 1
}

// lookup finds the flag that a word stands for, nil if there is none.
func lookup(flags []cli.Flag, word string) cli.Flag {
	name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

// isHelp says whether a word is the flag that every command has.
func isHelp(word string) bool { return slices.Contains([]string{"-h", "--h", "-help", "--help"}, word) }

func find(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}
