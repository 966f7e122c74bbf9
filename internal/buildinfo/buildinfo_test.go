package buildinfo

import (
	"runtime/debug"
	"strings"
	"testing"
)

func TestVersionComesFromWhateverKnowsIt(t *testing.T) {
	git := []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}}
	changed := append(git[:1:1], debug.BuildSetting{Key: "vcs.modified", Value: "true"})
	for _, c := range []struct {
		version, revision string
		b                 debug.BuildInfo
		want              string
	}{
		{"v1-3-gabc", "abc", debug.BuildInfo{GoVersion: "go1.26", Main: debug.Module{Version: "v0.9"}, Settings: changed}, "v1-3-gabc (revision abc, go1.26)"},
		{"", "", debug.BuildInfo{GoVersion: "go1.26", Main: debug.Module{Version: "v0.9"}, Settings: git}, "v0.9 (revision abc, go1.26)"},
		{"", "", debug.BuildInfo{GoVersion: "go1.26", Main: debug.Module{Version: "(devel)"}, Settings: changed}, "unknown (revision abc+changes, go1.26)"},
		{"", "", debug.BuildInfo{GoVersion: "go1.26", Main: debug.Module{Version: "(devel)"}}, "unknown (revision unknown, go1.26)"},
	} {
		if got := get(c.version, c.revision, &c.b).String(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if i := Get(); i.Version == "" || i.Revision == "" || !strings.HasPrefix(i.GoVersion, "go") {
		t.Errorf("%+v", i)
	}
}
