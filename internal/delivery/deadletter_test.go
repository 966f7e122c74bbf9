package delivery

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"eproxy/internal/request"
)

// TestNewFileIsNamedOnDisk: a dead letter in a file that was just made is on disk only when the
// file's name is, and those of the directories that were made for it. A later one needs no more.
func TestNewFileIsNamedOnDisk(t *testing.T) {
	b := newBench(t, 1, answers(500))
	top := filepath.Dir(b.fn.DeadLetter.File)
	b.fn.DeadLetter.File = filepath.Join(top, "a", "b", "dead.jsonl")
	var synced []string
	var failure error
	b.e.dead.syncDir = func(dir string) error {
		if s, err := os.Stat(b.fn.DeadLetter.File); err != nil || s.Size() == 0 {
			t.Errorf("synced before there is anything: %v", err)
		}
		synced = append(synced, strings.TrimPrefix(dir, top))
		return failure
	}
	deliver := func(want ...string) {
		t.Helper()
		o := b.e.Deliver(t.Context(), b.route, &request.Message{QoS: 1})
		if o.Acked != (failure == nil) || failure != nil && !strings.Contains(o.Err.Error(), "no space") {
			t.Errorf("%+v", o)
		}
		slices.Sort(synced)
		if !slices.Equal(synced, want) {
			t.Errorf("synced %q, want %q", synced, want)
		}
		synced = nil
	}
	failure = errors.New("no space")
	deliver("/a") // and no further
	failure = nil
	deliver("", "/a", "/a/b")
	deliver()
	if err := os.Rename(b.fn.DeadLetter.File, b.fn.DeadLetter.File+".1"); err != nil {
		t.Fatal(err)
	}
	deliver("/a/b")
	deliver()
	b.e.dead.files = nil // another process
	deliver("/a/b")
	deliver()
}

// TestDeadLettersTogether: letters that come at the same time are whole, each once.
func TestDeadLettersTogether(t *testing.T) {
	const n = 200
	b := newBench(t, 1, answers(500))
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if o := b.e.Deliver(t.Context(), b.route, &request.Message{QoS: 1, Topic: fmt.Sprint(i)}); !o.DeadLettered {
				t.Errorf("%+v", o)
			}
		})
	}
	wg.Wait()
	topics := map[string]bool{}
	for _, l := range b.letters() {
		topics[l.Topic] = true
	}
	if len(topics) != n || len(b.letters()) != n {
		t.Errorf("%d letters of %d messages, want %d", len(b.letters()), len(topics), n)
	}
}
