package config

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// goNames is how the names of Go's types look, and of this program's.
var goNames = regexp.MustCompile(`\b(raw|config|reflect|yaml|libyaml|netip|url|strconv|time)\.[A-Za-z]|\braw[A-Z]|map\[|interface ?\{|\bstruct\b|\[\]string|\bGo\b|unmarshal|nil pointer|\*int\b|\bint64\b|%!`)

// FuzzParse: whatever a file holds, it is a configuration or every error is one
// line that names the file and a line of it, in words of the user's.
func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	for _, file := range []string{"../../docs/example.yaml"} {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, s := range []string{"", "{}", "a: [", "functions: &a [*a]", "functions: [{<<: *b}]", "interfaces: {a: b}", "- a", "a: b: c", "\xff", "\x00",
		"functions: [{name: a, url: 'http://[::1', pods: [1:2], retry: {attempts: x}}]", "routes: [{topic: '$share/+'}]", "auth: {users: [{}]}",
		"listeners: [{address: 1883, tls: {cert: a}}]", "limits: {pods: -1}", "bpffs: a.b", "drain_timeout: 1", "? {a: b}\n: c", "a: !!map b", "%TAG ! a\n---\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f.yaml", data, NeedInterfaces)
		if err == nil {
			if len(c.Functions) == 0 || len(c.Interfaces) == 0 || len(c.Listeners) == 0 {
				t.Fatalf("accepted: %+v", c)
			}
			return
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			checkError(t, line)
			if goNames.MatchString(line) && !goNames.Match(data) {
				t.Errorf("%q has the name of a Go type", line)
			}
		}
	})
}

var position = regexp.MustCompile(`^f\.yaml:([1-9][0-9]*): .`)

// checkError checks one line of an error.
func checkError(t *testing.T, line string) {
	t.Helper()
	if !position.MatchString(line) {
		t.Errorf("%q does not begin with file and line", line)
	}
	if strings.ContainsFunc(line, unicode.IsControl) {
		t.Errorf("%q has control characters", line)
	}
}
