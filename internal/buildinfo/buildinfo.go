// Package buildinfo says which version of eproxy this program is.
package buildinfo

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
)

// Set by make build (-ldflags -X) where the sources are a git repository; a source
// archive has neither.
var version, revision string

// unknown stands for what the build did not record.
const unknown = "unknown"

// Info describes the build.
type Info struct {
	Version   string // as git describe says, or the module's version
	Revision  string // of the sources, with "+changes" if they had others than committed
	GoVersion string
}

// Get describes this program's build.
func Get() Info {
	b, ok := debug.ReadBuildInfo()
	if !ok {
		b = &debug.BuildInfo{}
	}
	return get(version, revision, b)
}

func get(version, revision string, b *debug.BuildInfo) Info {
	module := b.Main.Version
	if module == "(devel)" {
		module = ""
	}
	return Info{
		Version:   cmp.Or(version, module, unknown),
		Revision:  cmp.Or(revision, recorded(b), unknown),
		GoVersion: cmp.Or(b.GoVersion, runtime.Version()),
	}
}

// recorded is the revision that the go command has put into the binary by itself.
func recorded(b *debug.BuildInfo) string {
	settings := make(map[string]string)
	for _, s := range b.Settings {
		settings[s.Key] = s.Value
	}
	r := settings["vcs.revision"]
	if r != "" && settings["vcs.modified"] == "true" {
		r += "+changes"
	}
	return r
}

// String is what --version prints behind the program's name.
func (i Info) String() string {
	return fmt.Sprintf("%s (revision %s, %s)", i.Version, i.Revision, i.GoVersion)
}
