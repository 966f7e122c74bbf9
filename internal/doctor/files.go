package doctor

import (
	"fmt"

	"eproxy/internal/config"
	"eproxy/internal/openfiles"
)

// openFiles is how many clients the limit of open files of who asks has room for.
func openFiles(cfg *config.Config) Feature {
	const name = "open files"
	limit, err := openfiles.Limit()
	if err != nil {
		return Feature{name, Degraded, err.Error()}
	}
	if cfg == nil {
		return openFilesOf(limit, 1, 0)
	}
	return openFilesOf(limit, openfiles.Each(cfg), cfg.Limits.Connections)
}

// openFilesOf says what a limit has room for, where so many clients are wanted.
func openFilesOf(limit uint64, each, wanted int) Feature {
	n := openfiles.Clients(limit, each)
	f := Feature{"open files", Used, fmt.Sprintf("%d (RLIMIT_NOFILE): room for %d clients", limit, n)}
	if n < wanted {
		f.State = Degraded
		f.Detail += fmt.Sprintf(", limits.connections are %d", wanted)
	}
	return f
}
