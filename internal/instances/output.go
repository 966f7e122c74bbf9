package instances

import (
	"bytes"
	"time"
)

const (
	// maxLine is how much of a line that an instance writes is logged, in bytes.
	maxLine = 4096
	// Lines of one stream beyond so many in one second are counted only.
	maxLines = 200
	// outputTime is how long what an instance wrote is read after it has ended.
	outputTime = time.Second
)

// lines makes lines of what an instance writes to a stream. One that writes without end
// gets neither the loader's memory nor its log.
type lines struct {
	say     func(line string)
	omitted func(lines int) // that were left out since a line was logged
	part    []byte          // of a line that has not ended yet
	second  int64
	said    int // in this second
	left    int
	skipped bool // the rest of this line is left out
}

// Write takes any part of the stream; it never fails.
func (l *lines) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		line, rest, ended := bytes.Cut(b, []byte("\n"))
		b = rest
		if room := maxLine - len(l.part); !l.skipped {
			l.part = append(l.part, line[:min(len(line), room)]...)
			l.skipped = len(line) > room
		}
		if ended {
			l.end(time.Now().Unix())
		}
	}
	return n, nil
}

// close logs what the stream ended with: a line without its end, and how many were left out behind the last one that was logged.
func (l *lines) close() {
	if len(l.part) > 0 || l.skipped {
		l.end(time.Now().Unix())
	}
	if l.left > 0 {
		l.omitted(l.left)
		l.left = 0
	}
}

// end logs a line, at a second of the clock.
func (l *lines) end(now int64) {
	text := string(bytes.TrimRight(l.part, "\r"))
	if l.skipped {
		text += "..."
	}
	l.part, l.skipped = l.part[:0], false
	if now != l.second {
		l.second, l.said = now, 0
	}
	if l.said == maxLines {
		l.left++
		return
	}
	l.said++
	if l.left > 0 {
		l.omitted(l.left)
		l.left = 0
	}
	l.say(text)
}
