package instances

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// streams are stdout and stderr of a process that this one has not started.
type streams struct {
	reads, writes [2]*os.File
	lines         [2]*lines
	copied        sync.WaitGroup
}

// newStreams makes pipes, whose lines are logged.
func newStreams(out, errs *lines) (*streams, error) {
	s := &streams{lines: [2]*lines{out, errs}}
	for n := range s.lines {
		var err error
		if s.reads[n], s.writes[n], err = os.Pipe(); err != nil {
			if n > 0 {
				err = errors.Join(err, s.reads[0].Close(), s.writes[0].Close())
			}
			return nil, err
		}
	}
	for n, r := range s.reads {
		s.copied.Go(func() { _, _ = io.Copy(s.lines[n], r) })
	}
	return s, nil
}

// given says that the process has its ends.
func (s *streams) given() {
	for _, w := range s.writes {
		w.Close()
	}
}

// end reads what was written, for outputTime at most; the process has ended.
func (s *streams) end() {
	for _, r := range s.reads {
		_ = r.SetReadDeadline(time.Now().Add(outputTime))
	}
	s.copied.Wait()
	for n, r := range s.reads {
		r.Close()
		s.lines[n].close()
	}
}
