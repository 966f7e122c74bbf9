package netns

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"eproxy/test/lib/lab"
)

// TestTop: what mapsctl top shows of functions, pods and programs is what happens; on a terminal it is live, until q.
func TestTop(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	s := start(t, l, "tc", accountConfig(t))
	defer keepSending(t, l)()
	var function, pods float64
	programs := map[string]bool{}
	for _, row := range s.rows("top", "--once", "--programs", "--interval", "1s") {
		switch row["kind"] {
		case "function":
			function = row["rate"].(float64)
			if row["kernel_percent"].(float64) != 100 || row["errors"].(float64) != 0 || row["p99_us"].(float64) < row["p50_us"].(float64) || row["p50_us"].(float64) <= 0 {
				t.Errorf("%v", row)
			}
		case "pod":
			pods += row["rate"].(float64)
		case "program":
			if row["rate"].(float64) > 0 && row["cpu_percent"].(float64) > 0 {
				programs[row["name"].(string)] = true
			}
		}
	}
	if function <= 0 || pods < function/2 || pods > 2*function {
		t.Errorf("%v messages and %v requests per second", function, pods)
	}
	if !programs["tc_device_in"] || !programs["tc_pod_in"] {
		t.Errorf("programs that have run: %v", programs)
	}
	s.topOnTerminal()
}

// keepSending publishes until it is stopped.
func keepSending(t *testing.T, l *lab.Lab) (stop func()) {
	t.Helper()
	c := mustLogIn(t, l, account{version: 4, id: "c", user: "dev"})
	over := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() {
		for id := uint16(1); ; id = id%60000 + 1 {
			select {
			case <-over:
				return
			default:
			}
			if _, end := c.answer("sensors/c/temp", id, "x"); end {
				t.Error("a message is not acknowledged")
				return
			}
		}
	})
	return func() { close(over); sending.Wait() }
}

// topOnTerminal runs mapsctl top on a terminal until it shows the function, and ends it by its key.
func (s *system) topOnTerminal() {
	s.t.Helper()
	master, slave := terminal(s.t)
	cmd := exec.Command(filepath.Join(bin, "mapsctl"), "top", "--interval", "100ms", "--bpffs", s.lab.BPFFS())
	cmd.Env = append(os.Environ(), "TERM=xterm")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	_ = slave.Close()
	s.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var seen bytes.Buffer
	b := make([]byte, 4096)
	for quit := false; ; {
		n, err := master.Read(b)
		seen.Write(b[:n])
		if !quit && strings.Contains(seen.String(), "function") && strings.Contains(seen.String(), "live") {
			quit = true
			if _, err := master.WriteString("q"); err != nil {
				s.t.Fatal(err)
			}
		}
		if err != nil { // the other end is closed
			break
		}
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(seen.String(), "live") {
		s.t.Errorf("mapsctl top: %v: %q", err, seen.String())
	}
}

// terminal is a pair of pseudo terminals, of 40 lines with 160 characters.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 160}); err != nil {
		t.Fatal(err)
	}
	return master, slave
}
