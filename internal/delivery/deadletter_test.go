package delivery

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

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

// TestDeadLetterIsWholeOrNone: of letters that find no room nothing stays in the file, and what is written later is
// whole lines.
func TestDeadLetterIsWholeOrNone(t *testing.T) {
	b := newBench(t, 1, answers(500))
	deliver := func(topic string, want bool) {
		t.Helper()
		if o := b.e.Deliver(t.Context(), b.route, &request.Message{QoS: 1, Topic: topic}); o.Acked != want {
			t.Errorf("%s: %+v", topic, o)
		}
	}
	deliver("first", true)
	st, err := os.Stat(b.fn.DeadLetter.File)
	if err != nil {
		t.Fatal(err)
	}
	restore := limitFileSize(t, uint64(st.Size())+10)
	deliver("no room", false)
	batch := bytes.Repeat([]byte("{}\n"), 10) // of which some would fit
	if err := b.e.dead.file(b.fn.DeadLetter.File).write(batch, rotation{}); err == nil {
		t.Error("letters without room are written")
	}
	restore()
	deliver("last", true)
	var topics []string
	for _, l := range b.letters() {
		topics = append(topics, l.Topic)
	}
	if !slices.Equal(topics, []string{"first", "last"}) {
		t.Errorf("letters of %q", topics)
	}
}

// limitFileSize lets no file of this process grow beyond this, until restore is called.
func limitFileSize(t *testing.T, bytes uint64) (restore func()) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(unix.SIGXFSZ)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	restore = sync.OnceFunc(func() {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
			t.Error(err)
		}
		signal.Reset(unix.SIGXFSZ)
	})
	t.Cleanup(restore)
	return restore
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
