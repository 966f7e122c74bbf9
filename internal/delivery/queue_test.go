package delivery

import (
	"math/rand/v2"
	"testing"

	"eproxy/internal/config"
)

// kernelSide is what waits in the kernel, as far as a queue sees it.
type kernelSide struct{ waits, may int }

func (k *kernelSide) Count() int         { return k.waits }
func (k *kernelSide) Allow(messages int) { k.may = messages }

// TestParkedIsAPartOfTheQueue: whatever comes and goes on both sides, a queue never holds more in all than its
// bounds, nobody waits outside while there is room, and userspace has its reserve whatever waits in the kernel.
func TestParkedIsAPartOfTheQueue(t *testing.T) {
	const messages, bytes = 40, 40 * ParkedBytes * 3 / 4
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		k := &kernelSide{}
		q := &queue{}
		q.park(k)
		q.follow(&config.Function{Name: "f", Queue: config.Queue{Messages: messages, Bytes: bytes}})
		var held []int
		var outside []*turn
		for step := range 4000 {
			size := 1 + r.IntN(ParkedBytes)
			switch n := r.IntN(10); {
			case n < 3 && k.waits < k.may: // as the programs decide
				k.waits++
			case n < 5:
				k.waits = max(0, k.waits-1)
			case n < 6 && q.push(size), n < 8 && len(outside) == 0 && q.enter(size):
				held = append(held, size)
			case n < 8 && len(outside) < 3:
				outside = append(outside, q.ask(size))
			case len(held) > 0:
				i := r.IntN(len(held))
				gone := held[i]
				held = append(held[:i], held[i+1:]...)
				q.leave(gone)
			}
			for len(outside) > 0 && outside[0].has() {
				held, outside = append(held, outside[0].size), outside[1:]
			}
			sum := 0
			for _, x := range held {
				sum += x
			}
			if len(held)+k.waits > messages || len(held) > 1 && sum+k.waits*ParkedBytes > bytes {
				t.Fatalf("seed %d, step %d: %d messages of %d bytes in userspace, %d in the kernel", seed, step, len(held), sum, k.waits)
			}
			if len(outside) > 0 && len(held) == 0 {
				t.Fatalf("seed %d, step %d: one waits outside of an empty queue, which will not tell it", seed, step)
			}
		}
	}
}
