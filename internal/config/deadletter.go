package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"eproxy/internal/topic"
)

// DeadLetter is where messages go whose attempts are spent: to one of File, Topic and
// URL.
type DeadLetter struct {
	File    string // absolute path
	MaxSize int64  // bytes, beyond which a new file is begun; 0: never
	Keep    int    // files of before that are kept then
	Topic   string // of subscribers; no function gets it
	URL     *url.URL
}

// Defaults of a DeadLetter.
const (
	defaultKeep = 5
	// MaxKeep is the largest Keep.
	MaxKeep = 100
	// TakenLetters is at the end of the name of a file whose letters are being delivered; with ".new", of what is written in its place.
	TakenLetters = ".replay"
)

// deadLetter reads where a function's dead letters go.
func (b *builder) deadLetter(path string, r *rawFunction) *DeadLetter {
	d := r.DeadLetter
	if d == nil {
		return nil
	}
	out := &DeadLetter{File: cleanFile(d.File), Topic: d.Topic, Keep: b.number(path+".keep", d.Keep, defaultKeep, 1, MaxKeep), MaxSize: b.bytes(path+".max_size", d.MaxSize, 0)}
	ways := 0
	for _, s := range []string{d.File, d.Topic, d.URL} {
		if s != "" {
			ways++
		}
	}
	if ways != 1 {
		b.fail(path, "function %q: dead_letter needs one of file, topic and url", r.Name)
		return out
	}
	if d.File == "" && (d.MaxSize != "" || d.Keep != nil) {
		b.fail(path, "function %q: dead_letter max_size and keep are those of a file", r.Name)
	}
	switch {
	case d.File != "" && !strings.HasPrefix(d.File, "/"):
		b.fail(path+".file", "function %q: dead_letter file %q: must be an absolute path", r.Name, d.File)
	case d.Topic != "":
		if err := topic.ValidateName(d.Topic); err != nil {
			b.fail(path+".topic", "function %q: dead_letter topic %q: %v", r.Name, d.Topic, err)
		} else if topic.Reserved(d.Topic) {
			b.fail(path+".topic", "function %q: dead_letter topic %q: topics under $SYS and $share are the server's own", r.Name, d.Topic)
		}
	case d.URL != "":
		u, err := url.Parse(d.URL)
		if out.URL = u; err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			b.fail(path+".url", "function %q: dead_letter url %q: must be as http://letters.example/temp", r.Name, d.URL)
		}
	}
	return out
}

// cleanFile is the one name of those that a file has, so that who shares it knows that: paths that differ in "//" or "..".
func cleanFile(path string) string {
	if !strings.HasPrefix(path, "/") {
		return path
	}
	return filepath.Clean(path)
}

// deadLetterFiles refuses a file that is another's by name: one that was full, or whose letters are being delivered. Functions may
// share a file.
func (b *builder) deadLetterFiles() {
	owner := make(map[string]string) // function, by file
	for _, f := range b.cfg.Functions {
		if f.DeadLetter != nil && f.DeadLetter.File != "" {
			owner[f.DeadLetter.File] = f.Name
		}
	}
	for i, f := range b.cfg.Functions {
		if f.DeadLetter == nil {
			continue
		}
		if base, ok := baseOfLetters(f.DeadLetter.File); ok && owner[base] != "" {
			b.fail(fmt.Sprintf("$.functions[%d].dead_letter.file", i), "function %q: dead_letter file %q: is where function %q moves letters of its file %q to", f.Name, f.DeadLetter.File, owner[base], base)
		}
	}
}

// baseOfLetters is the file whose letters are moved to this one; false: none is.
func baseOfLetters(file string) (string, bool) {
	for _, end := range []string{TakenLetters, TakenLetters + ".new"} {
		if base, ok := strings.CutSuffix(file, end); ok {
			return base, true
		}
	}
	dot := strings.LastIndexByte(file, '.')
	n, err := strconv.Atoi(file[dot+1:])
	if dot < 0 || err != nil || n < 1 || n > MaxKeep {
		return "", false
	}
	return file[:dot], true
}
