package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"eproxy/internal/config"
)

// Errors of what is done with letters that are kept.
var (
	// ErrNoFile means that a function keeps no dead letters in a file.
	ErrNoFile = errors.New("has no file of dead letters")
	// ErrInUse means that somebody else does something with the letters of a function's file.
	ErrInUse = errors.New("the file of its dead letters is in use: they are being listed, delivered or removed")
)

// failuresAtOnce is how many letters may fail before the rest is left for another time.
const failuresAtOnce = 100

// Replayed is what became of a function's letters.
type Replayed struct {
	Delivered int `json:"delivered"`
	Failed    int `json:"failed"` // they are kept
	Left      int `json:"left"`   // that have not been tried
}

// EachLetter calls each with a function's letters, the oldest first, until that returns false. unreadable is how many lines of the
// file are no letters, or not whole: half a line is there after a crash.
func (e *Engine) EachLetter(function string, each func(*Letter) bool) (unreadable int, err error) {
	f, _, err := e.letterFile(function)
	if err != nil {
		return 0, err
	}
	if !f.replay.TryRLock() {
		return 0, fmt.Errorf("function %s: %w", function, ErrInUse)
	}
	defer f.replay.RUnlock()
	err = f.eachLine(e.longest(), func(l line) bool {
		if l.function != "" && l.function != function {
			return true
		}
		x := l.letter()
		if x == nil {
			unreadable++
			return true
		}
		return each(x)
	})
	return unreadable, err
}

// Purge removes a function's letters, and says how many there were; with them goes what is nobody's letter. Those of others
// that are in the same file go behind the letters that have come since.
func (e *Engine) Purge(function string) (n int, err error) {
	f, d, err := e.exclusive(function)
	if err != nil {
		return 0, err
	}
	defer f.replay.Unlock()
	ours := func(l line) bool { return l.function == function || l.function == "" }
	files := 0
	for _, path := range f.paths() {
		if _, err := os.Lstat(path); err == nil {
			files++
		}
	}
	for range files { // and not for as long as others come
		in, err := f.take(ours, e.longest(), rotation{d.MaxSize, d.Keep})
		if err != nil || in == nil {
			return n, err
		}
		err = f.rewrite(in, rotation{d.MaxSize, d.Keep}, func(l line) fate {
			switch l.function {
			case function:
				n++
				return gone
			case "":
				return gone
			}
			return kept
		})
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Replay delivers the letters of a function that are in one file, the oldest that has any, and keeps what cannot be delivered. Left
// are those of that file that were not tried, because ctx ended or too many have failed, and those of other files. A letter is delivered
// again if the machine stops before the file is written anew, or if ctx ends before its last attempt; none is cut off.
func (e *Engine) Replay(ctx context.Context, function string) (r Replayed, err error) {
	f, d, err := e.exclusive(function)
	if err != nil {
		return r, err
	}
	defer f.replay.Unlock()
	limit := rotation{d.MaxSize, d.Keep}
	in, err := f.take(func(l line) bool { return l.function == function }, e.longest(), limit)
	if err != nil || in == nil {
		return r, err
	}
	err = f.rewrite(in, limit, func(l line) fate {
		if ctx.Err() != nil || r.Failed >= failuresAtOnce {
			return left
		}
		if l.function != function {
			return kept
		}
		o := e.redeliver(ctx, function, l)
		switch {
		case o.Acked:
			r.Delivered++
			return gone
		case o.Interrupted:
			return left
		}
		r.Failed++
		return kept
	})
	if err != nil {
		return r, err
	}
	err = f.eachLine(e.longest(), func(l line) bool {
		if l.function == function {
			r.Left++
		}
		return true
	})
	r.Left = max(r.Left-r.Failed, 0) // they are among them
	return r, err
}

// redeliver sends a letter's message to its function. Nothing is written of what fails. When ctx ends no further attempt begins.
func (e *Engine) redeliver(ctx context.Context, function string, l line) Outcome {
	letter, now := l.letter(), e.state.Load().cfg.Function(function)
	if letter == nil || now == nil {
		return Outcome{}
	}
	fn := *now
	fn.DeadLetter = nil
	x := &single{}
	x.stays = true
	x.init(context.WithoutCancel(ctx), e, &fn, letter.Message(), time.Now(), false)
	x.push()
	defer context.AfterFunc(ctx, func() { x.stop(errGone) })()
	x.run(0, nil)
	return *x.result
}

// letterFile is the file of a function's letters.
func (e *Engine) letterFile(function string) (*letterFile, *config.DeadLetter, error) {
	fn := e.state.Load().cfg.Function(function)
	if fn == nil {
		return nil, nil, fmt.Errorf("function %s is not in the configuration", function)
	}
	if fn.DeadLetter == nil || fn.DeadLetter.File == "" {
		return nil, nil, fmt.Errorf("function %s: %w", function, ErrNoFile)
	}
	return e.dead.file(fn.DeadLetter.File), fn.DeadLetter, nil
}

// exclusive is the file of a function's letters for who will unlock its replay.
func (e *Engine) exclusive(function string) (*letterFile, *config.DeadLetter, error) {
	f, d, err := e.letterFile(function)
	if err != nil {
		return nil, nil, err
	}
	if !f.replay.TryLock() {
		return nil, nil, fmt.Errorf("function %s: %w", function, ErrInUse)
	}
	return f, d, nil
}

// take takes the oldest file that has a line of these out of the way of new letters, and opens it; nil: there is none.
func (f *letterFile) take(which func(line) bool, longest int, limit rotation) (*lines, error) {
	for {
		oldest, err := f.oldest(which, longest)
		if err != nil || oldest == nil {
			return nil, err
		}
		in, err := f.setAside(oldest, longest)
		if err != nil {
			return nil, errors.Join(err, oldest.Close())
		}
		if in != nil {
			return in, nil
		}
		err = f.putBack(longest, limit)
		if err = errors.Join(err, oldest.Close()); err != nil {
			return nil, err
		}
	}
}

// oldest is the oldest file that has a line of these, opened; nil: there is none.
func (f *letterFile) oldest(which func(line) bool, longest int) (found *os.File, err error) {
	files, err := f.openAll()
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if found == nil && err == nil {
			var has bool
			if has, err = newLines(file, longest).has(which); has {
				found = file.File
				continue
			}
		}
		err = errors.Join(err, file.Close())
	}
	return found, err
}

// setAside renames a file, wherever it is by now, to that of the letters that are being delivered. nil: it is gone, or others
// are there.
func (f *letterFile) setAside(file *os.File, longest int) (*lines, error) {
	f.disk.Lock()
	defer f.disk.Unlock()
	st, err := file.Stat()
	if err != nil {
		return nil, err
	}
	for _, path := range f.paths() {
		now, err := os.Lstat(path)
		if err != nil || !os.SameFile(st, now) {
			continue
		}
		if path != f.taken() {
			switch st, err := os.Lstat(f.taken()); {
			case err == nil && st.Mode().IsRegular():
				return nil, nil
			case err == nil:
				return nil, fmt.Errorf("%s is in the way of the letters that are to be delivered, and no regular file", f.taken())
			}
			if err := errors.Join(os.Rename(path, f.taken()), f.syncDir(filepath.Dir(f.path))); err != nil {
				return nil, err
			}
		}
		return newLines(sized{file, st.Size()}, longest), nil
	}
	return nil, nil
}

// putBack puts what another replay has left behind the letters that have come since, if it has left any.
func (f *letterFile) putBack(longest int, limit rotation) error {
	file, err := openSized(f.taken())
	if err != nil || file.File == nil {
		return err
	}
	return f.rewrite(newLines(file, longest), limit, func(line) fate { return kept })
}

// fate is what becomes of a line.
type fate int

const (
	gone fate = iota // it is removed
	kept             // it goes behind the letters that have come since
	left             // it stays where it is, and so do those after it
)

// rewrite writes what remains of the file that was taken, as judge says of each line, and closes it.
func (f *letterFile) rewrite(in *lines, limit rotation, judge func(line) fate) error {
	defer in.file.Close()
	behind := &appender{file: f, room: in.file.size, limit: limit}
	for {
		at := in.offset
		l, err := in.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		what := judge(l)
		if what == left {
			if err := behind.flush(); err != nil {
				return err
			}
			return f.keepFrom(in.file, at)
		}
		if what == kept {
			if err := behind.put(l.text); err != nil {
				return err
			}
		}
	}
	if err := behind.flush(); err != nil {
		return err
	}
	if err := os.Remove(f.taken()); err != nil {
		return err
	}
	return f.syncDir(filepath.Dir(f.path))
}

// keepFrom writes the file that was taken anew without what is before this offset, durably.
func (f *letterFile) keepFrom(in sized, offset int64) error {
	if offset == 0 {
		return nil
	}
	name := f.taken() + ".new"
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|noFollow, 0o640)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.NewSectionReader(in, offset, in.size-offset))
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return err
	}
	if err := os.Rename(name, f.taken()); err != nil {
		return err
	}
	return f.syncDir(filepath.Dir(f.path))
}

// appender puts lines behind the letters that have come since, many at a time.
type appender struct {
	file  *letterFile
	room  int64 // bytes that are put at most
	limit rotation
	begun bool
	text  []byte
}

// appendAtOnce is how many bytes an appender holds before it writes them.
const appendAtOnce = 1 << 20

func (a *appender) put(text []byte) error {
	if a.text = append(a.text, text...); len(a.text) < appendAtOnce {
		return nil
	}
	return a.flush()
}

// flush writes what there is. A new file is begun once at most, in place of the one that was taken: otherwise the oldest letters
// would have to go.
func (a *appender) flush() error {
	if len(a.text) == 0 {
		return nil
	}
	if !a.begun {
		a.begun = true
		a.file.disk.Lock()
		err := a.file.rotate(a.room, a.limit)
		a.file.disk.Unlock()
		if err != nil {
			return err
		}
	}
	b := a.file.add(a.text, rotation{})
	<-b.done
	a.text = a.text[:0]
	return b.err
}

// letter is the line's letter; nil: it is none, or not whole.
func (l line) letter() *Letter {
	var x Letter
	if l.function == "" || json.Unmarshal(l.text, &x) != nil {
		return nil
	}
	return &x
}
