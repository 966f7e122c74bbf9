package heap

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
)

// resident is how much of this process's memory is its own and in the machine, in bytes.
func resident(t *testing.T) (n int) {
	t.Helper()
	f, err := os.Open("/proc/self/smaps_rollup")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if value, ok := strings.CutPrefix(sc.Text(), "Anonymous:"); ok {
			if _, err := fmt.Sscan(value, &n); err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("smaps_rollup says nothing of it")
	return 0
}

// TestFloor: garbage may gather before it is collected, and what stands for it takes no memory.
func TestFloor(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	was := resident(t)
	Floor()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := resident(t) - was; grown > floorBytes/2 {
		t.Errorf("it takes %d bytes of memory", grown)
	}
	if free := after.NextGC - after.HeapAlloc; free < floorBytes {
		t.Errorf("%d bytes may come before the next collection, want %d (before: %d)", free, floorBytes, before.NextGC-before.HeapAlloc)
	}
	runtime.KeepAlive(floor)
}
