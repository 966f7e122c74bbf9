// Package openfiles says for how many clients the process's limit of open files (RLIMIT_NOFILE, getrlimit(2)) has room, and
// counts them, so that the rest of the program always can open what it needs.
package openfiles

import (
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"eproxy/internal/config"
)

// reserve is how many descriptors are left to all but clients: maps, interfaces, connections to pods, files. Of a limit below four
// times that it is a quarter.
const reserve = 2048

// Limit is how many files this process may have open. The Go runtime has raised the soft limit to the hard one when it is asked.
func Limit() (uint64, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	return l.Cur, nil
}

// Each is how many of them a client's connection takes: it may lead to a broker.
func Each(cfg *config.Config) int {
	if cfg.Broker.Relay() {
		return 2
	}
	return 1
}

// Clients is for how many connections of clients a limit has room, each of which takes so many descriptors.
func Clients(limit uint64, each int) int {
	limit = min(limit, math.MaxInt32) // RLIM_INFINITY
	return int(limit-min(reserve, limit/4)) / each
}

// Room is for clients. The zero value has none.
type Room struct {
	most int64
	open atomic.Int64
}

// For makes the Room of a configuration under the limit that this process has, and says how large it is.
func For(cfg *config.Config, log *slog.Logger) (*Room, error) {
	limit, err := Limit()
	if err != nil {
		return nil, err
	}
	n := Clients(limit, Each(cfg))
	if most := cfg.Limits.Connections; n < most {
		log.Warn("the limit of open files (RLIMIT_NOFILE) has room for fewer clients than limits.connections", "open_files", limit, "clients", n, "connections", most)
	} else {
		log.Info("room for clients", "open_files", limit, "clients", n)
	}
	return NewRoom(n), nil
}

// NewRoom has room for so many.
func NewRoom(most int) *Room { return &Room{most: int64(most)} }

// Most is for how many it has room.
func (r *Room) Most() int { return int(r.most) }

// Enter takes a place; false: there is none.
func (r *Room) Enter() bool {
	if r.open.Add(1) <= r.most {
		return true
	}
	r.open.Add(-1)
	return false
}

// Leave gives a place back.
func (r *Room) Leave() { r.open.Add(-1) }
