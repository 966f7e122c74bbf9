package delivery

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"eproxy/internal/config"
)

// Errors of what is done with letters that are kept.
var (
	// ErrNoFile means that a function keeps no dead letters in a file.
	ErrNoFile = errors.New("has no file of dead letters")
	// ErrReplaying means that a function's letters are being delivered.
	ErrReplaying = errors.New("its dead letters are being delivered")
)

// failuresAtOnce is how many letters may fail before the rest is left for another time: they are kept in memory until the
// end of their file.
const failuresAtOnce = 100

// Replayed is what became of a function's letters.
type Replayed struct {
	Delivered int `json:"delivered"`
	Failed    int `json:"failed"` // they are kept
	Left      int `json:"left"`   // that have not been tried
}

// EachLetter calls each with a function's letters, the oldest first, until that returns false.
func (e *Engine) EachLetter(function string, each func(*Letter) bool) error {
	f, d, err := e.letterFile(function)
	if err != nil {
		return err
	}
	f.replay.Lock() // nothing is renamed meanwhile but by a file that is full
	defer f.replay.Unlock()
	for _, path := range f.paths(d.Keep) {
		more, err := eachLine(path, func(line []byte) (bool, error) {
			var l Letter
			if err := json.Unmarshal(line, &l); err != nil {
				return false, err
			}
			return each(&l), nil
		})
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// Purge removes a function's letters, and says how many there were.
func (e *Engine) Purge(function string) (n int, err error) {
	f, d, err := e.letterFile(function)
	if err != nil {
		return 0, err
	}
	if !f.replay.TryLock() {
		return 0, fmt.Errorf("function %s: %w", function, ErrReplaying)
	}
	defer f.replay.Unlock()
	f.disk.Lock()
	defer f.disk.Unlock()
	for _, path := range f.paths(d.Keep) {
		if _, err := eachLine(path, func([]byte) (bool, error) { n++; return true, nil }); err != nil {
			return n, err
		}
		if err := os.Remove(path); err != nil {
			return n, err
		}
	}
	return n, f.syncDir(filepath.Dir(f.path))
}

// Replay delivers the letters of one file of a function's, the oldest there is, and keeps what cannot be delivered. Left
// are those of that file that were not tried, because ctx ended or too many have failed, and those of other files. A letter
// is delivered again if the machine stops before the file is written anew.
func (e *Engine) Replay(ctx context.Context, function string) (r Replayed, err error) {
	f, d, err := e.letterFile(function)
	if err != nil {
		return r, err
	}
	if !f.replay.TryLock() {
		return r, fmt.Errorf("function %s: %w", function, ErrReplaying)
	}
	defer f.replay.Unlock()
	taken, err := f.take(d.Keep)
	if err != nil || taken == "" {
		return r, err
	}
	var failed, left bytes.Buffer
	_, err = eachLine(taken, func(line []byte) (bool, error) {
		switch {
		case ctx.Err() != nil || r.Failed >= failuresAtOnce:
			r.Left++
			left.Write(line)
		case e.redeliver(ctx, function, line):
			r.Delivered++
		case ctx.Err() != nil:
			r.Left++
			left.Write(line)
		default:
			r.Failed++
			failed.Write(line)
		}
		return true, nil
	})
	if err == nil {
		err = f.settle(taken, failed.Bytes(), left.Bytes(), rotation{d.MaxSize, d.Keep})
	}
	if err != nil {
		return r, err
	}
	for _, path := range f.paths(d.Keep) {
		if path != taken && (path != f.path || r.Failed == 0) {
			_, _ = eachLine(path, func([]byte) (bool, error) { r.Left++; return true, nil })
		}
	}
	return r, nil
}

// redeliver sends a letter's message to its function, and says whether that has it. Nothing is written of what fails.
func (e *Engine) redeliver(ctx context.Context, function string, line []byte) bool {
	var l Letter
	now := e.state.Load().cfg.Function(function)
	if json.Unmarshal(line, &l) != nil || now == nil {
		return false
	}
	fn := *now
	fn.DeadLetter = nil
	x := &single{}
	x.init(ctx, e, &fn, l.Message(), time.Now())
	x.push()
	x.run(0, nil)
	return x.result.Acked
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

// taken is the name of a file whose letters are being delivered.
func (f *letterFile) taken() string { return f.path + ".replay" }

// paths are the files that there are, the oldest first.
func (f *letterFile) paths(keep int) []string {
	names := []string{f.taken()}
	for i := max(keep, 1); i >= 1; i-- {
		names = append(names, numbered(f.path, i))
	}
	var out []string
	for _, path := range append(names, f.path) {
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
			out = append(out, path)
		}
	}
	return out
}

// take takes the oldest file out of the way of new letters; empty: there is none.
func (f *letterFile) take(keep int) (string, error) {
	f.disk.Lock()
	defer f.disk.Unlock()
	all := f.paths(keep)
	if len(all) == 0 {
		return "", nil
	}
	if all[0] == f.taken() { // of a replay that did not end
		return all[0], nil
	}
	if err := os.Rename(all[0], f.taken()); err != nil {
		return "", err
	}
	return f.taken(), f.syncDir(filepath.Dir(f.path))
}

// settle writes what remains of a file that was taken: what has failed goes behind the letters that have come since, what was not tried
// stays where it is.
func (f *letterFile) settle(taken string, failed, left []byte, limit rotation) error {
	if len(failed) > 0 {
		b := f.add(failed, limit)
		<-b.done
		if b.err != nil {
			return b.err
		}
	}
	if len(left) > 0 {
		return replaceFile(taken, left, f.syncDir)
	}
	if err := os.Remove(taken); err != nil {
		return err
	}
	return f.syncDir(filepath.Dir(taken))
}

// replaceFile writes a file anew, durably.
func replaceFile(path string, text []byte, syncDir func(string) error) error {
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// eachLine calls each with every line of a file, with its end, until that returns false; more: it has not.
func eachLine(path string, each func(line []byte) (bool, error)) (more bool, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) { // a full one was renamed
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer file.Close()
	r := bufio.NewReader(file)
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) { // a line without its end is not a letter yet
			return true, nil
		}
		if err != nil {
			return false, err
		}
		more, err := each(line)
		if err != nil {
			return false, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		if !more {
			return false, nil
		}
	}
}
