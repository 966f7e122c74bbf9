package turns

import (
	"sync"
	"testing"
)

// TestTurns: one connection of an identifier at a time, others are not held up, and nothing is kept of identifiers without connections.
func TestTurns(t *testing.T) {
	var turns Turns
	var inside int
	var all sync.WaitGroup
	other := turns.Begin("other")
	for range 50 {
		all.Go(func() {
			for range 100 {
				end := turns.Begin("c")
				if inside++; inside != 1 {
					t.Error("two connections have the turn")
				}
				inside--
				end()
			}
		})
	}
	all.Wait()
	other()
	if len(turns.open) != 0 {
		t.Errorf("%d identifiers are kept", len(turns.open))
	}
}

// TestTry: a turn that another connection has is not waited for; a free one is taken as any other.
func TestTry(t *testing.T) {
	var turns Turns
	end := turns.Begin("c")
	if turns.Try("c") != nil {
		t.Error("two connections have the turn")
	}
	end()
	if end = turns.Try("c"); end == nil {
		t.Fatal("a free turn is not given")
	}
	if turns.Try("c") != nil {
		t.Error("two connections have the turn that was tried for")
	}
	end()
	if len(turns.open) != 0 {
		t.Errorf("%d identifiers are kept", len(turns.open))
	}
}
