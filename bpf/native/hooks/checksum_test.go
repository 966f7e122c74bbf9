//go:build cgo

package hooks

import (
	"fmt"
	"testing"
)

// TestGroupChecksum: requests that share a segment have one TCP checksum,
// whatever their bytes are and wherever they begin. The machine's bpf_csum_diff
// returns a sum of 32 bits, as Linux up to 6.12 does; later ones fold it to 16,
// so that a carry that is lost in adding the sums does not show there.
func TestGroupChecksum(t *testing.T) {
	m := mustBuild(t)
	for i := 1; i <= 256; i++ {
		w := newWorld(m, 1, 4)
		d := w.device(4, "d0", 40000)
		first := w.publish(d, 1, 1, payload(fmt.Sprintf("%d", i*7919), 60+i%16))
		w.publish(d, 2, 1, payload(fmt.Sprintf("%d", i*104729), 61+i%7))
		w.publish(d, 3, 1, payload(fmt.Sprintf("%d", i*1299709), 60+i%3))
		if err := w.run(w.send(first, false)); err != nil {
			t.Fatalf("variant %d: %v", i, err)
		}
		left := 0
		for _, r := range m.Records() {
			if r.kind == RecordPodWire {
				left++
			}
		}
		if n := len(w.pods[0].requests); n != 3 || left != 1 {
			t.Fatalf("variant %d: %d requests left in %d segments, want 3 in 1", i, n, left)
		}
	}
}
