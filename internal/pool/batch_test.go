package pool

import (
	"runtime"
	"sync"
	"testing"

	"eproxy/internal/outbox"
)

// TestGatherWritesTogether: what goroutines that are ready to run at the same time have for one connection goes out in
// few writes, and all of it.
func TestGatherWritesTogether(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that all are ready before the first has its turn
	const goroutines = 16
	var mu sync.Mutex
	writes, written := 0, 0
	box := outbox.Box{Failed: func(err error) { t.Error(err) }, Try: func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		writes, written = writes+1, written+len(b)
		return len(b), nil
	}}
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			var b Batch
			box.Put([]byte("request"))
			b.Add(&box)
			b.Gather()
		})
	}
	wg.Wait()
	if want := goroutines * len("request"); written != want {
		t.Errorf("%d bytes were written of %d", written, want)
	}
	// The runtime looks at who has given way before the others now and then.
	if writes > goroutines/4 {
		t.Errorf("%d writes for what %d goroutines had at the same time", writes, goroutines)
	}
}
