package delivery

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"eproxy/internal/config"
)

// noFollow keeps what is opened from being another file than it is named: the directory may be a user's, and the loader is root.
const noFollow = unix.O_NOFOLLOW

// taken is the name of a file whose letters are being delivered.
func (f *letterFile) taken() string { return f.path + config.TakenLetters }

// paths are the files that there may be, the oldest first, that of a larger keep of before included.
func (f *letterFile) paths() []string {
	out := []string{f.taken()}
	for i := config.MaxKeep; i >= 1; i-- {
		out = append(out, numbered(f.path, i))
	}
	return append(out, f.path)
}

// sized is an open file, and how many of its bytes count: others may be being written.
type sized struct {
	*os.File
	size int64
}

// openAll opens the regular files that there are, the oldest first, as they are now: whatever is renamed or written later, no line
// is seen twice.
func (f *letterFile) openAll() (out []sized, err error) {
	f.disk.Lock()
	defer f.disk.Unlock()
	for _, path := range f.paths() {
		file, err := openSized(path)
		if err != nil {
			for _, file := range out {
				_ = file.Close()
			}
			return nil, err
		}
		if file.File != nil {
			out = append(out, file)
		}
	}
	return out, nil
}

// openSized opens a regular file to read; nil: there is none.
func openSized(path string) (sized, error) {
	file, err := openLetters(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // not to wait for who writes to a pipe
	if errors.Is(err, fs.ErrNotExist) {
		return sized{}, nil
	}
	if err != nil {
		return sized{}, err
	}
	st, err := file.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return sized{}, errors.Join(err, file.Close())
	}
	return sized{file, st.Size()}, nil
}

// openLetters opens a file, but follows no link.
func openLetters(path string, flags int, mode fs.FileMode) (*os.File, error) {
	file, err := os.OpenFile(path, flags|noFollow, mode)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link, which is not followed: name the file that it leads to", path)
	}
	return file, err
}

// eachLine calls each with every line of all files, the oldest first, until that returns false.
func (f *letterFile) eachLine(longest int, each func(line) bool) error {
	files, err := f.openAll()
	if err != nil {
		return err
	}
	more := true
	for _, file := range files {
		if more && err == nil {
			var stopped bool
			stopped, err = newLines(file, longest).has(func(l line) bool { return !each(l) })
			more = !stopped
		}
		err = errors.Join(err, file.Close())
	}
	return err
}

// line is a line of a file of letters.
type line struct {
	function string // whose letter it is; empty: it is none
	text     []byte // with its end; until the next line is read
}

// lines reads a file line by line. It holds one at a time, and a part of one that is longer than a letter can be.
type lines struct {
	file    sized
	r       *bufio.Reader
	longest int
	offset  int64 // in the file, of the next line
	text    []byte
	within  bool // the next line is the rest of one that was too long
}

func newLines(file sized, longest int) *lines {
	return &lines{file: file, r: bufio.NewReaderSize(io.NewSectionReader(file, 0, file.size), 1<<16), longest: longest}
}

// next is the next line; io.EOF: there is none. What is at the end of the file without a newline is a line, too: it may be a whole letter.
// The parts of one that is too long are lines, and no letters.
func (l *lines) next() (line, error) {
	l.text = l.text[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		l.text = append(l.text, part...)
		l.offset += int64(len(part))
		whole := err == nil
		switch {
		case errors.Is(err, bufio.ErrBufferFull) && len(l.text) < l.longest:
			continue
		case errors.Is(err, io.EOF) && len(l.text) == 0:
			return line{}, io.EOF
		case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull):
			return line{}, err
		case !whole:
			l.text = append(l.text, '\n')
		}
		cut := errors.Is(err, bufio.ErrBufferFull)
		out := line{text: l.text}
		if !l.within && !cut {
			out.function = functionOf(l.text)
		}
		l.within = cut
		return out, nil
	}
}

// has says whether there is a line of these among those that follow.
func (l *lines) has(which func(line) bool) (bool, error) {
	for {
		x, err := l.next()
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if which(x) {
			return true, nil
		}
	}
}

// functionOf is whose letter a text is; empty: it is none. It looks no further than it must: the name is at the beginning, and is there though
// the end is missing.
func functionOf(text []byte) string {
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return ""
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return ""
		}
		if key == "function" {
			name, _ := d.Token()
			s, _ := name.(string)
			return s
		}
		var skipped json.RawMessage
		if d.Decode(&skipped) != nil {
			return ""
		}
	}
	return ""
}

// longest is how many bytes of text a letter has at most, and not less than any that was written with a smaller max_packet_size of before
// is likely to have: every byte of a packet is six in JSON at worst.
func (e *Engine) longest() int {
	return max(6*e.state.Load().cfg.Limits.MaxPacketSize+1<<20, 16<<20)
}
