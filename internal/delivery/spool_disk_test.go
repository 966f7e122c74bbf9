package delivery

import (
	"bytes"
	"errors"
	"golang.org/x/sys/unix"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"eproxy/internal/config"
	"eproxy/test/lib/bubble"
)

// TestSpoolReload: a spool that the configuration names no more stays as it is, with a line in the log; when it is named again, what is in it is delivered.
func TestSpoolReload(t *testing.T) {
	spoolTest(t, func(t *testing.T, s *spooling) {
		s.publishAll("c", 3, 1)
		synctest.Wait()
		without := *s.fn
		without.Queue.Spool = nil
		s.e.Reload(&config.Config{Functions: []*config.Function{&without}}, s)
		if !strings.Contains(s.log.String(), "messages are left in the spool") {
			t.Errorf("the log has\n%s", s.log.String())
		}
		s.serve()
		if seen, _ := s.settled(); !slices.Equal(seen, topics("c", 1, 1)) {
			t.Errorf("without the spool the function has seen %q", seen)
		}
		s.e.Reload(&config.Config{Functions: []*config.Function{s.fn}}, s)
		if seen, _ := s.settled(); !slices.Equal(seen, topics("c", 2, 3)) {
			t.Errorf("with it again the function has seen %q", seen)
		}
	})
}

// TestSpoolUnusable: a file that is damaged, or not ours, is said in one line, and left as it is; the function is served all the same.
func TestSpoolUnusable(t *testing.T) {
	spoolTest(t, func(t *testing.T, s *spooling) {
		s.publishAll("c", 3, 1)
		s.stop()
		file := filepath.Join(s.fn.Queue.Spool.Dir, "f.spool")
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// Copies of it are in pages that are free now.
		if c := bytes.ReplaceAll(b, []byte(`"topic":"c/02"`), []byte(`"topic":"x/02"`)); !bytes.Equal(b, c) {
			b = c
		} else {
			t.Fatal("the message is not in the file")
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s.log.Reset()
		s.start()
		s.e.Reload(&config.Config{Functions: []*config.Function{s.fn}}, s)
		if n := strings.Count(s.log.String(), "level=ERROR"); n != 1 || !strings.Contains(s.log.String(), "f.spool: the file is damaged") {
			t.Errorf("the log has\n%s", s.log.String())
		}
		if st := s.stat(); st.Usable {
			t.Errorf("%+v", st)
		}
		s.settled()
		s.serve()
		s.publish(s.e.NewPublisher(1, time.Minute, nil), message("d", 1, 1))
		if seen, _ := s.settled(); !slices.Contains(seen, "d/01") {
			t.Errorf("the function has seen %q", seen)
		}
		if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, b) {
			t.Errorf("the file has changed (%v)", err)
		}
	})
}

// refuseWrites has every write to an open file of this process fail, until its end; mend gives up its lock then.
func refuseWrites(t *testing.T, path string) (mend func()) {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err != nil || to != path {
			continue
		}
		n, err := strconv.Atoi(filepath.Base(fd))
		if err != nil {
			t.Fatal(err)
		}
		saved, err1 := unix.Dup(n)
		readOnly, err2 := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err := errors.Join(err1, err2, unix.Dup3(readOnly, n, unix.O_CLOEXEC), unix.Close(readOnly)); err != nil {
			t.Fatal(err)
		}
		return func() { _ = unix.Close(saved) }
	}
	t.Fatalf("%s is not open", path)
	return nil
}

// TestSpoolEndsOnBadDisk: the program ends though the disk refuses what is to be written, and its metrics can be read meanwhile; nothing was tried
// that could not be taken out of the spool, and nothing is lost.
func TestSpoolEndsOnBadDisk(t *testing.T) {
	spoolTest(t, func(t *testing.T, s *spooling) {
		s.publishAll("c", 4, 0)
		synctest.Wait()
		mend := refuseWrites(t, filepath.Join(s.fn.Queue.Spool.Dir, "f.spool"))
		s.serve()
		bubble.Pass(t, time.Minute)
		if seen, _ := s.settled(); !slices.Equal(seen, topics("c", 1, 1)) {
			t.Errorf("with a disk that refuses the function has seen %q", seen)
		}
		ended := make(chan struct{})
		s.end()
		go func() { s.e.Close(); close(ended) }()
		synctest.Wait()
		if st := s.stat(); st.Usable {
			t.Errorf("while it ends: %+v", st)
		}
		<-ended
		mend()
		s.start()
		if seen, _ := s.settled(); !slices.Equal(seen, topics("c", 2, 4)) {
			t.Errorf("after that the function has seen %q", seen)
		}
	})
}

// TestSpoolReopened: a spool that could not be opened is not tried again with each change of pods, but when the configuration is read again, or after
// a while.
func TestSpoolReopened(t *testing.T) {
	spoolTest(t, func(t *testing.T, s *spooling) {
		again := func(want bool, when string) {
			t.Helper()
			if s.e.Reload(&config.Config{Functions: []*config.Function{s.fn}}, s); s.stat().Usable != want {
				t.Errorf("%s: usable is not %v", when, want)
			}
		}
		dir := s.fn.Queue.Spool.Dir
		mode := func(m os.FileMode) {
			if err := os.Chmod(dir, m); err != nil {
				t.Fatal(err)
			}
		}
		s.stop()
		mode(0o755)
		s.start()
		mode(0o700)
		again(false, "at once")
		bubble.Pass(t, reopen)
		again(true, "after a while")
		s.stop()
		mode(0o755)
		s.start()
		mode(0o700)
		s.configure(func(fn *config.Function) { same := *fn.Queue.Spool; fn.Queue.Spool = &same })
		if !s.stat().Usable {
			t.Error("not usable after a reload of the configuration")
		}
	})
}
