package config

import (
	"fmt"
	"strings"
	"testing"
)

// TestFilesOfDeadLetters: functions may share a file, however it is named, but none may have one that another's letters are moved to.
func TestFilesOfDeadLetters(t *testing.T) {
	const text = `functions:
  - {name: a, url: "http://a.local", pods: ["10.0.0.1:80"], dead_letter: {file: /d/a}}
  - {name: b, url: "http://b.local", pods: ["10.0.0.2:80"], dead_letter: {file: %s}}
routes: [{topic: a, function: a}]
`
	for _, x := range []struct {
		file string
		ok   bool
	}{{"/d/a", true}, {"/d//x/../a", true}, {"/d/a.101", true}, {"/d/a.0", true}, {"/d/a.old", true}, {"/d.1/a", true}, {"/d/.1", true},
		{"/d/a.1", false}, {"/d/./a.100", false}, {"/d/a.replay", false}, {"/d/a.replay.new", false}} {
		c, err := Parse("f.yaml", fmt.Appendf(nil, text, x.file))
		if x.ok {
			if err != nil {
				t.Errorf("%s: %v", x.file, err)
			} else if got := c.Function("b").DeadLetter.File; strings.Contains(got, "..") || strings.Contains(got, "//") {
				t.Errorf("%s is known as %s", x.file, got)
			}
			continue
		}
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), `f.yaml:3: function "b": dead_letter file "/d/a.`) ||
			!strings.Contains(err.Error(), `is where function "a" moves letters of its file "/d/a" to`) {
			t.Errorf("%s: %v", x.file, err)
		}
	}
}
