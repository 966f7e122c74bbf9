package mochi

import (
	"sync"
	"sync/atomic"

	"eproxy/internal/broker"
)

// gone is a kernel path that takes no connections, and resets the next one.
type gone struct{ next atomic.Bool }

func (g *gone) Established(c broker.ConnInfo) broker.Graft {
	if g.next.Swap(false) {
		c.Abort()
	}
	return nil
}

// first is a kernel path that takes the first connection only.
type first struct {
	fakeGraft
	once sync.Once
}

func (f *first) Established(c broker.ConnInfo) (g broker.Graft) {
	f.once.Do(func() { g = f.fakeGraft.Established(c) })
	return g
}
