package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"eproxy/internal/config"
	"eproxy/internal/pool"
)

// lettersOf is the text of letters that are named by function and topic, as f:topic.
func lettersOf(t *testing.T, names ...string) string {
	t.Helper()
	var out strings.Builder
	for _, name := range names {
		function, topic, _ := strings.Cut(name, ":")
		line, err := json.Marshal(&Letter{Function: function, Topic: topic, QoS: 1})
		if err != nil {
			t.Fatal(err)
		}
		out.Write(append(line, '\n'))
	}
	return out.String()
}

// put writes a file of the function's; end is what its name has more.
func (b *bench) put(end, text string) {
	b.t.Helper()
	if err := os.WriteFile(b.fn.DeadLetter.File+end, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// files are the names and letters of what there is, as "end f:topic g:topic", of a topic its beginning, in the order of the names.
func (b *bench) files() (out []string) {
	b.t.Helper()
	all, err := filepath.Glob(b.fn.DeadLetter.File + "*")
	if err != nil {
		b.t.Fatal(err)
	}
	for _, path := range all {
		text, err := os.ReadFile(path)
		if err != nil {
			b.t.Fatal(err)
		}
		s := strings.TrimPrefix(path, b.fn.DeadLetter.File)
		for line := range strings.Lines(string(text)) {
			var l Letter
			if json.Unmarshal([]byte(line), &l) != nil {
				l.Function = "none"
			}
			s += " " + l.Function + ":" + l.Topic[:min(len(l.Topic), 3)]
		}
		out = append(out, s)
	}
	return out
}

// sharing has another function g with the same file.
func (b *bench) sharing() {
	g := *b.fn
	g.Name = "g"
	b.e.state.Load().cfg.Functions = append(b.e.state.Load().cfg.Functions, &g)
}

// TestFileOfTwoFunctions: what is done with one's letters leaves the other's, wherever they are, and they stay what they were.
func TestFileOfTwoFunctions(t *testing.T) {
	b := newBench(t, 1, slices.Repeat([]exchange{answers(200)}, 9)...)
	b.sharing()
	b.put(".replay", lettersOf(t, "g:0"))
	b.put(".2", lettersOf(t, "g:1"))
	b.put(".1", lettersOf(t, "f:2", "g:3"))
	b.put("", lettersOf(t, "g:4", "f:5"))
	if got := b.topicsOf(); got != "2 5" {
		t.Errorf("f's letters are %q", got)
	}
	if got, err := b.e.Replay(t.Context(), "f"); err != nil || got != (Replayed{Delivered: 1, Left: 1}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, want := b.files(), []string{" g:4 f:5 g:0 g:3", ".2 g:1"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	b.put(".3", lettersOf(t, "f:6", "g:7"))
	if n, err := b.e.Purge("f"); n != 2 || err != nil {
		t.Errorf("purged %d, %v", n, err)
	}
	if got, want := b.files(), []string{" g:4 g:0 g:3 g:7", ".2 g:1"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	if got, err := b.e.Replay(t.Context(), "f"); err != nil || got != (Replayed{}) || b.pool.made.Load() != 1 {
		t.Errorf("%+v, %v, %d requests", got, err, b.pool.made.Load())
	}
	if n, err := b.e.Purge("g"); n != 5 || err != nil || len(b.files()) != 0 {
		t.Errorf("purged %d, %v; files %q", n, err, b.files())
	}
}

// TestReplayLosesNothingToRotation: what is put back takes the room of the file that was taken, and no other letter's; also if
// it is more than a file is to have, and is not written at once.
func TestReplayLosesNothingToRotation(t *testing.T) {
	b := newBench(t, 1, answers(200))
	b.sharing()
	b.fn.DeadLetter.Keep, b.fn.DeadLetter.MaxSize = 2, int64(len(lettersOf(t, "g:0", "g:0", "g:0")))
	large := "g:xxx" + strings.Repeat("x", appendAtOnce)
	b.put(".2", lettersOf(t, "f:0", large, large, "g:2"))
	b.put(".1", lettersOf(t, "g:3", "g:4", "g:5"))
	b.put("", lettersOf(t, "g:6", "g:7", "g:8"))
	if got, err := b.e.Replay(t.Context(), "f"); err != nil || got != (Replayed{Delivered: 1}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, want := b.files(), []string{" g:xxx g:xxx g:2", ".1 g:6 g:7 g:8", ".2 g:3 g:4 g:5"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
}

// TestLinksAreNotFollowed: whoever owns the directory cannot have another file written, or read.
func TestLinksAreNotFollowed(t *testing.T) {
	b := newBench(t, 1, answers(200))
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.put("", lettersOf(t, "f:0", "f:1"))
	link := func(end string) {
		t.Helper()
		if err := os.Symlink(victim, b.fn.DeadLetter.File+end); err != nil {
			t.Fatal(err)
		}
	}
	link(".replay.new")
	ctx, cancel := context.WithCancel(t.Context())
	b.pool.steps = []exchange{func(ctx context.Context, body []byte) (*pool.Response, error) {
		cancel()
		return answers(200)(ctx, body)
	}}
	if got, err := b.e.Replay(ctx, "f"); err != nil || got != (Replayed{Delivered: 1, Left: 1}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got := b.files(); !slices.Equal(got, []string{".replay f:1"}) {
		t.Errorf("files %q", got)
	}
	link("")
	if err := b.e.dead.write(b.fn.DeadLetter, &Letter{Function: "f"}); err == nil || !strings.Contains(err.Error(), b.fn.DeadLetter.File+" is a symbolic link") {
		t.Errorf("written through a link: %v", err)
	}
	if _, err := b.e.EachLetter("f", func(*Letter) bool { return true }); err == nil || !strings.Contains(err.Error(), "is a symbolic link") {
		t.Errorf("read through a link: %v", err)
	}
	if text, err := os.ReadFile(victim); string(text) != "precious" {
		t.Errorf("the file that links lead to is %q, %v", text, err)
	}
}

// TestHalfALine: what a crash has left spoils no letter, and one that is whole but for its newline is a letter.
func TestHalfALine(t *testing.T) {
	b := newBench(t, 1, answers(200), answers(200), answers(200))
	whole := lettersOf(t, "f:0")
	b.put(".1", strings.TrimSuffix(lettersOf(t, "f:1"), "\n"))
	b.put("", whole+whole[:len(whole)/2])
	if err := b.e.dead.write(b.fn.DeadLetter, &Letter{Function: "f", Topic: "2", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	var topics []string
	unreadable, err := b.e.EachLetter("f", func(l *Letter) bool { topics = append(topics, l.Topic); return true })
	if unreadable != 1 || err != nil || !slices.Equal(topics, []string{"1", "0", "2"}) {
		t.Errorf("letters %q, %d unreadable, %v", topics, unreadable, err)
	}
	for _, want := range []Replayed{{Delivered: 1, Left: 3}, {Delivered: 2, Failed: 1}} { // the half is kept, as it is f's
		if got, err := b.e.Replay(t.Context(), "f"); err != nil || got != want {
			t.Errorf("replayed %+v, %v, want %+v", got, err, want)
		}
	}
	if n, err := b.e.Purge("f"); n != 1 || err != nil || len(b.files()) != 0 {
		t.Errorf("purged %d, %v; files %q", n, err, b.files())
	}
	b.put("", "not a letter\n\x00\x00{}\n")
	unreadable, err = b.e.EachLetter("f", func(l *Letter) bool { t.Errorf("%+v", l); return true })
	if unreadable != 2 || err != nil {
		t.Errorf("%d unreadable, %v", unreadable, err)
	}
	if n, err := b.e.Purge("f"); n != 0 || err != nil || len(b.files()) != 0 {
		t.Errorf("purged %d, %v; files %q", n, err, b.files())
	}
}

// TestReplayIsNotCutOff: who no longer waits for a replay ends it between letters, and the one under way is delivered once; meanwhile new
// letters are written, and nobody waits for the file.
func TestReplayIsNotCutOff(t *testing.T) {
	b := newBench(t, 2)
	b.put("", lettersOf(t, "f:0", "f:1", "f:2"))
	ctx, cancel := context.WithCancel(t.Context())
	b.pool.steps = []exchange{func(attempt context.Context, body []byte) (*pool.Response, error) {
		if err := b.e.dead.write(b.fn.DeadLetter, &Letter{Function: "f", Topic: "3", QoS: 1}); err != nil {
			t.Error(err)
		}
		_, listed := b.e.EachLetter("f", func(*Letter) bool { return true })
		_, purged := b.e.Purge("f")
		_, again := b.e.Replay(ctx, "f")
		if !errors.Is(listed, ErrInUse) || !errors.Is(purged, ErrInUse) || !errors.Is(again, ErrInUse) {
			t.Errorf("meanwhile: %v, %v, %v", listed, purged, again)
		}
		cancel()
		if attempt.Err() != nil {
			t.Error("the attempt is cut off")
		}
		return answers(200)(attempt, body)
	}}
	if got, err := b.e.Replay(ctx, "f"); err != nil || got != (Replayed{Delivered: 1, Left: 3}) {
		t.Errorf("%+v, %v", got, err)
	}
	// Nor does it wait for another attempt.
	ctx, cancel = context.WithCancel(t.Context())
	b.pool.made.Store(0)
	b.pool.steps = []exchange{func(attempt context.Context, body []byte) (*pool.Response, error) {
		cancel()
		return answers(500)(attempt, body)
	}}
	if got, err := b.e.Replay(ctx, "f"); err != nil || got != (Replayed{Left: 3}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got := b.topicsOf(); got != "1 2 3" {
		t.Errorf("letters of %q", got)
	}
}

// TestLongLine: no more of a line than a letter can have is held, and nothing of it is taken for a letter.
func TestLongLine(t *testing.T) {
	const longest = 100_000
	letter := lettersOf(t, "f:0")
	text := strings.Repeat("x", 4*65536) + letter + letter // the first begins where a part does
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := openSized(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	in := newLines(file, longest)
	var all strings.Builder
	letters := 0
	for {
		l, err := in.next()
		if err != nil {
			break
		}
		if len(l.text) > longest+65537 {
			t.Fatalf("a line of %d bytes is held", len(l.text))
		}
		if l.function != "" {
			letters++
		}
		all.Write(l.text)
	}
	if got := strings.ReplaceAll(all.String(), "\n", ""); letters != 1 || got != strings.ReplaceAll(text, "\n", "") || in.offset != int64(len(text)) {
		t.Errorf("%d letters; %d bytes up to %d, want one and %d", letters, all.Len(), in.offset, len(text))
	}
}

// TestPurgeOfManyFiles: of files that a larger keep has left as well.
func TestPurgeOfManyFiles(t *testing.T) {
	b := newBench(t, 1)
	b.fn.DeadLetter = &config.DeadLetter{File: b.fn.DeadLetter.File, Keep: 1}
	for _, end := range []string{".replay", ".100", ".7", ".1", ""} {
		b.put(end, lettersOf(t, "f:"+end))
	}
	if n, err := b.e.Purge("f"); n != 5 || err != nil || len(b.files()) != 0 {
		t.Errorf("purged %d, %v; files %q", n, err, b.files())
	}
}
