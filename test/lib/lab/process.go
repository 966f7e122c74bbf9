package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a program under test on one of the hosts.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error

	mu  sync.Mutex
	log []string
}

// startTimeout is how long a program may take to say that it serves: the
// verifier needs some seconds when the machine is busy.
const startTimeout = 60 * time.Second

// StartServing starts a program and waits until its log says "serving".
func (l *Lab) StartServing(r Role, cmd *exec.Cmd) (*Process, error) {
	serving := make(chan struct{})
	p, err := l.start(r, cmd, serving)
	if err != nil {
		return nil, err
	}
	select {
	case <-serving:
		return p, nil
	case <-p.done:
		return nil, fmt.Errorf("%s ended at once: %s", filepath.Base(cmd.Path), p.Log())
	case <-time.After(startTimeout):
		p.Kill()
		return nil, fmt.Errorf("%s does not serve after %s: %s", filepath.Base(cmd.Path), startTimeout, p.Log())
	}
}

// StartLogged starts a program that says in its own words, if at all, when it
// serves: nobody waits for that.
func (l *Lab) StartLogged(r Role, cmd *exec.Cmd) (*Process, error) { return l.start(r, cmd, nil) }

// start starts a program in a process group of its own and reads its log; serving, if
// any, is closed when the log says so.
func (l *Lab) start(r Role, cmd *exec.Cmd, serving chan<- struct{}) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	out, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := l.Start(r, cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	go p.read(out, serving)
	return p, nil
}

func (p *Process) read(out io.Reader, serving chan<- struct{}) {
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		p.mu.Lock()
		p.log = append(p.log, sc.Text())
		p.mu.Unlock()
		if serving != nil && strings.Contains(sc.Text(), "msg=serving") {
			close(serving)
			serving = nil
		}
	}
	p.err = p.cmd.Wait()
	close(p.done)
}

// Log is what the program has said so far.
func (p *Process) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.log, "\n")
}

// PID is its process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Stop sends SIGTERM and waits; a program that does not end is killed, which is
// an error.
func (p *Process) Stop() error {
	_ = p.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-p.done:
		return p.err
	case <-time.After(30 * time.Second):
		p.Kill()
		return errors.New("did not end after SIGTERM")
	}
}

// Kill ends the program and its children at once and waits for them.
func (p *Process) Kill() {
	_ = unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL)
	<-p.done
}

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Eproxy says how eproxy is to run on the node.
type Eproxy struct {
	Bin    string   // directory of the binaries
	Mode   string   // xdp, tc, on, auto or fallback
	Config string   // YAML without interfaces, xdp, bpffs
	Under  []string // command that runs it, such as setpriv and its arguments; nil: none
}

// BPFFS is the pin directory that StartEproxy configures.
func (l *Lab) BPFFS() string { return filepath.Join(bpfDir, l.id+"pins") }

// StartEproxy starts the loader, or the fallback alone, on the node.
func (l *Lab) StartEproxy(ctx context.Context, dir string, e Eproxy) (*Process, error) {
	cfg := e.Config
	bin := "loader"
	args := []string{"run"}
	switch e.Mode {
	case "xdp":
		cfg = "interfaces: [eth0]\nxdp: native\n" + cfg
	case "tc":
		cfg = "interfaces: [eth0]\nxdp: off\n" + cfg
	case "on":
		cfg = "interfaces: [eth0]\nxdp: on\n" + cfg
	case "auto":
		cfg = "interfaces: [eth0]\n" + cfg
	case "fallback":
		bin, args = "userspace-fallback", nil
	default:
		return nil, fmt.Errorf("mode %q: must be xdp, tc, on, auto or fallback", e.Mode)
	}
	cfg += fmt.Sprintf("bpffs: %s\n", l.BPFFS())
	file := filepath.Join(dir, "eproxy.yaml")
	if err := os.WriteFile(file, []byte(cfg), 0o600); err != nil {
		return nil, err
	}
	argv := append(append(slices.Clone(e.Under), filepath.Join(e.Bin, bin)), append(args, "--config", file, "--log-level", "debug")...)
	return l.StartServing(Node, Command(ctx, argv[0], argv[1:]...))
}

// Expect notes the log as it is; the function that it returns waits for a later
// line that contains text.
func (p *Process) Expect(text string) func() error {
	p.mu.Lock()
	from := len(p.log)
	p.mu.Unlock()
	return func() error {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		late := time.After(30 * time.Second)
		for {
			p.mu.Lock()
			lines := p.log[from:]
			p.mu.Unlock()
			for _, l := range lines {
				if strings.Contains(l, text) {
					return nil
				}
			}
			select {
			case <-tick.C:
			case <-p.done:
				return fmt.Errorf("ended without saying %q", text)
			case <-late:
				return fmt.Errorf("did not say %q", text)
			}
		}
	}
}
