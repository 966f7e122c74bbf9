package docs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"eproxy/test/lib/markdown"
)

// source is everything in files with one of these endings.
func source(t *testing.T, endings ...string) string {
	t.Helper()
	var b strings.Builder
	for _, f := range files(t, endings...) {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(text)
	}
	return b.String()
}

func TestMetricsExist(t *testing.T) {
	program := source(t, ".go")
	name := regexp.MustCompile(`^eproxy_[a-z_]+`)
	eachSpan(t, func(at, text string) {
		if m := name.FindString(text); m != "" && !strings.Contains(program, `"`+m+`"`) {
			t.Errorf("%s: there is no metric %s", at, m)
		}
	})
}

// TestCommandLinesAreUnderstood: every command line that is shown is one that its program
// understands, and every flag is one that some program has.
func TestCommandLinesAreUnderstood(t *testing.T) {
	found := 0
	flags := source(t, ".go")
	eachSpan(t, func(at, text string) {
		words := strings.Fields(text)
		name := strings.TrimPrefix(words[0], "bin/")
		switch {
		case slices.Contains(programs, name) && len(words) > 1:
			found++
			for _, line := range markdown.Alternatives(words[1:]) {
				if err := understands(name, line); err != nil {
					t.Errorf("%s: %s: %v", at, text, err)
				}
			}
		case isFlag.MatchString(words[0]):
			flag := strings.TrimLeft(words[0], "-")
			if !strings.Contains(flags, `Name: "`+flag+`"`) && !strings.Contains(flags, `Aliases: []string{"`+flag+`"}`) {
				t.Errorf("%s: no program has the flag %s", at, words[0])
			}
		}
	})
	if found < 5 {
		t.Errorf("only %d command lines", found)
	}
}

// isFlag is how flags are written: -o, --output.
var isFlag = regexp.MustCompile(`^(-[a-z]|--[a-z-]+)$`)

var (
	helpName  = regexp.MustCompile(`(?m)^NAME:\n +(.*?) - `)
	helpUsage = regexp.MustCompile(`(?m)^USAGE:\n.* options\](.*)`)
)

// understands asks a program for its help on a command line. Flags that it does
// not have are an error to it; sub-commands that it does not have are not.
func understands(name string, words []string) error {
	cmd := exec.Command(filepath.Join(bin, name), append(slices.Clone(words), "--help")...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	known, usage := helpName.FindStringSubmatch(string(out)), helpUsage.FindStringSubmatch(string(out))
	if known == nil || usage == nil {
		return fmt.Errorf("no help: %s", out)
	}
	at := 0
	for _, w := range strings.Fields(known[1])[1:] {
		for at < len(words) && words[at] != w {
			at++
		}
		at++
	}
	if at < len(words) && !strings.HasPrefix(words[at], "-") && strings.TrimSpace(usage[1]) == "" {
		return fmt.Errorf("%s takes no %q", known[1], words[at])
	}
	return nil
}
