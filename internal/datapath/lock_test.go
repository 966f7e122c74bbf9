package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestStatusDoesNotDisturb: whoever asks who holds the lock, however often, is
// not noticed by loaders that start. (Asking took the lock for a moment, and
// wrote the asker's pid into it.)
func TestStatusDoesNotDisturb(t *testing.T) {
	name := filepath.Join(t.TempDir(), "eproxy", "pins.lock")
	if _, running, err := holder(name); running || err != nil {
		t.Fatalf("nobody ever ran: %v, %v", running, err)
	}
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("asking left a lock file: %v", err)
	}
	stop := make(chan struct{})
	var askers sync.WaitGroup
	for range 2 {
		askers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, _, err := holder(name); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 1000 {
		lock, err := acquireLock(name)
		if err != nil {
			t.Error(err)
			break
		}
		if _, err := acquireLock(name); !errors.Is(err, ErrRunning) {
			t.Errorf("a second loader: %v, want %v", err, ErrRunning)
			break
		}
		if pid, running, err := holder(name); err != nil || !running || pid != fmt.Sprint(os.Getpid()) {
			t.Errorf("held by %q: %v, %v", pid, running, err)
			break
		}
		if err := lock.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	askers.Wait()
	if _, running, err := holder(name); running || err != nil {
		t.Errorf("after the last one: %v, %v", running, err)
	}
}
