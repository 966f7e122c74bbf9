package store

import (
	"fmt"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// TestGroupLetsOthersOn: who waits for a slow disk goes on when a group begins: it may hold a lock that the group wants, and the disk is not
// written to before the group has ended.
func TestGroupLetsOthersOn(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "new"))
	defer func() { _ = s.Close() }()
	slow, err := s.db.Begin(true)
	if err != nil {
		t.Fatal(err)
	}
	s.Put(Retained, "first", nil)
	for taken := false; !taken; runtime.Gosched() {
		s.mu.Lock()
		taken = len(s.ops) == 0
		s.mu.Unlock()
	}
	for n := range waitingBytes >> 20 {
		s.Put(Retained, fmt.Sprint(n), make([]byte, 1<<20))
	}
	begun, done := make(chan struct{}), make(chan struct{})
	go func() {
		close(begun)
		s.Put(Retained, "last", nil)
		close(done)
	}()
	<-begun
	for range 1000 {
		runtime.Gosched() // most likely it waits now; if not, it does not in the group
	}
	s.Begin()
	if err := slow.Rollback(); err != nil {
		t.Error(err)
	}
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("somebody waits for the group, which cannot end")
	}
	s.End()
}
