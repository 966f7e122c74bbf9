package netns

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/test/lib/lab"
)

// shipped is a server as its project or Debian ships it, on one pod.
type shipped struct {
	name    string
	command func(t *testing.T, host string, port int) *exec.Cmd // nil: net/http, in this process
	// kill is what ends it, if not SIGKILL. nginx writes its log when it has answered, and on SIGTERM
	// not of the last: it gets what its container image gets.
	kill     unix.Signal
	read     func(out io.Reader, got func(request)) // its output; nil: readJSON
	watchdog string                                 // what its log says of a worker that does not get on; "": it has none
	// held: it serves a connection until that ends, however long nothing comes on it. Any client
	// that keeps connections, as HTTP/1.1 has it, keeps it from everybody else.
	held bool
}

func allShipped() []shipped {
	script := func(name string, args ...string) func(*testing.T, string, int) *exec.Cmd {
		return func(t *testing.T, host string, port int) *exec.Cmd {
			dir, err := filepath.Abs("servers")
			if err != nil {
				t.Fatal(err)
			}
			with := strings.NewReplacer("DIR", dir, "HOST", host, "PORT", fmt.Sprint(port))
			var own []string
			for _, a := range args {
				own = append(own, with.Replace(a))
			}
			cmd := lab.Command(context.Background(), name, own...)
			cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
			return cmd
		}
	}
	const gunicornWatchdog = "WORKER TIMEOUT"
	return []shipped{
		{name: "gunicorn", command: script("gunicorn", "--chdir", "DIR", "-b", "HOST:PORT", "wsgi:app"), watchdog: gunicornWatchdog},
		{name: "gunicorn-threads", command: script("gunicorn", "--chdir", "DIR", "-b", "HOST:PORT", "--threads", "4", "wsgi:app"), watchdog: gunicornWatchdog},
		{name: "uvicorn", command: script("uvicorn", "--app-dir", "DIR", "--host", "HOST", "--port", "PORT", "asgi:app")},
		{name: "node", command: script("node", "DIR/node.js", "PORT")},
		{name: "node-close", command: script("node", "DIR/node.js", "PORT=close")},
		{name: "go"},
		{name: "nginx", kill: unix.SIGQUIT, command: func(t *testing.T, _ string, port int) *exec.Cmd {
			return nginxCommand(t, nginxServer(port, nginxOK))
		}},
		{name: "apache", command: apacheCommand, read: readForensic},
		{name: "php", command: script("php", "-S", "HOST:PORT", "DIR/router.php")},
		{name: "python-1.0", command: script("python3", "DIR/python.py", "PORT=1.0")},
		{name: "python-1.1-threads", command: script("python3", "DIR/python.py", "PORT=1.1-threads")},
		{name: "python-1.1-single", command: script("python3", "DIR/python.py", "PORT=1.1-single"), held: true},
	}
}

// apacheConfig is what Debian ships for mod_php: prefork, and the settings of apache2.conf,
// mpm_prefork.conf and reqtimeout.conf. The file that it serves is on every Debian. The forensic log
// has each request when it has come, not when it was answered.
const apacheConfig = `ServerRoot %[1]s
DefaultRuntimeDir %[1]s
PidFile %[1]s/pid
User www-data
Group www-data
ServerName pod
ErrorLog /dev/stderr
Timeout 300
KeepAlive On
MaxKeepAliveRequests 100
KeepAliveTimeout 5
HostnameLookups Off
LoadModule mpm_prefork_module %[2]s/mod_mpm_prefork.so
LoadModule authz_core_module %[2]s/mod_authz_core.so
LoadModule alias_module %[2]s/mod_alias.so
LoadModule reqtimeout_module %[2]s/mod_reqtimeout.so
LoadModule log_forensic_module %[2]s/mod_log_forensic.so
StartServers 5
MinSpareServers 5
MaxSpareServers 10
MaxRequestWorkers 150
MaxConnectionsPerChild 0
RequestReadTimeout header=20-40,minrate=500
RequestReadTimeout body=10,minrate=500
Listen %[3]s
Alias /ingest /etc/debian_version
ForensicLog /dev/stdout
`

func apacheCommand(t *testing.T, host string, port int) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "apache2.conf")
	listen := net.JoinHostPort(host, fmt.Sprint(port))
	if err := os.WriteFile(file, fmt.Appendf(nil, apacheConfig, dir, "/usr/lib/apache2/modules", listen), 0o600); err != nil {
		t.Fatal(err)
	}
	return lab.Command(context.Background(), inSbin("apache2"), "-D", "FOREGROUND", "-f", file)
}

// readForensic reads Apache's forensic log: +ID|POST /ingest HTTP/1.1|Host:a|Name:value, and
// later -ID.
func readForensic(out io.Reader, got func(request)) {
	sc := bufio.NewScanner(out)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		fields := strings.Split(sc.Text(), "|")
		if !strings.HasPrefix(sc.Text(), "+") || len(fields) < 2 {
			continue
		}
		q := request{headers: map[string]string{}}
		for _, f := range fields[2:] {
			name, value, _ := strings.Cut(f, ":")
			q.headers[strings.ToLower(name)] = value
		}
		got(q)
	}
}

// serving is a shipped server on a pod, which can be started again.
type serving struct {
	shipped
	t    *testing.T
	lab  *lab.Lab
	host string
	port int
	got  *recorder

	mu     sync.Mutex
	end    func()
	log    func() string
	barked int // how often its watchdog had killed a worker when that was last looked at
}

// serveShipped starts a server, and waits until it accepts connections.
func serveShipped(t *testing.T, l *lab.Lab, k shipped, port int) *serving {
	t.Helper()
	s := &serving{shipped: k, t: t, lab: l, host: lab.PodAddr(lab.Pod0, false).String(), port: port, got: newRecorder()}
	s.start(t)
	t.Cleanup(s.stop)
	waitListening(t, l, lab.Pod0, port)
	return s
}

func (s *serving) address() string { return net.JoinHostPort(s.host, fmt.Sprint(s.port)) }

// start starts it and does not wait for it. t is the test that does it, which may be one of those within the server's own.
func (s *serving) start(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.command == nil {
		s.startGo(t)
		return
	}
	cmd := s.command(s.t, s.host, s.port)
	// not StdoutPipe: Wait would close it with what the program has printed last
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = in
	p, err := s.lab.StartLogged(lab.Pod0, cmd)
	in.Close()
	if err != nil {
		out.Close()
		t.Fatal(err)
	}
	read := s.read
	if read == nil {
		read = readJSON
	}
	s.got.readers.Go(func() {
		defer out.Close()
		read(out, s.got.add)
	})
	s.log, s.barked = p.Log, 0
	s.end = func() {
		if s.kill != 0 {
			_ = p.Signal(s.kill)
			select {
			case <-p.Done():
			case <-time.After(hung):
				s.t.Errorf("%s does not end", s.name)
			}
		}
		p.Kill()
	}
}

func (s *serving) startGo(t *testing.T) {
	t.Helper()
	ln, err := s.lab.Listen(lab.Pod0, s.address())
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: s.got.handler(ok)}
	go func() { _ = srv.Serve(ln) }()
	s.end = func() { _ = srv.Close() }
	s.log = func() string { return "" }
}

// stop ends it; it stays so.
func (s *serving) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end()
}

// counts is how often each message has come, by its topic.
func (s *serving) counts() (map[string]int, <-chan struct{}) {
	got, more := s.got.all()
	n := map[string]int{}
	for _, q := range got {
		n[q.headers["ce-subject"]]++
	}
	return n, more
}

// wait waits until all messages have come, and returns how often each.
func (s *serving) wait(t *testing.T, ms []message) map[string]int {
	t.Helper()
	late := time.After(hung)
	for {
		n, more := s.counts()
		missing := slices.DeleteFunc(slices.Clone(ms), func(m message) bool { return n[m.topic] > 0 })
		if len(missing) == 0 {
			return n
		}
		select {
		case <-more:
		case <-late:
			t.Errorf("%d of %d messages are not in the server's log: %v", len(missing), len(ms), missing)
			return n
		}
	}
}

// more waits until n messages have come beyond the first that many, or the load has ended, and
// returns how many have.
func (s *serving) more(t *testing.T, first, n int, ended <-chan error) int {
	t.Helper()
	late := time.After(2 * hung) // the load ends before, if it waits for longer than hung
	for {
		got, more := s.got.all()
		if len(got) >= first+n {
			return len(got)
		}
		select {
		case <-more:
		case err := <-ended:
			t.Fatalf("after %d messages the load ended: %v", len(got), err)
		case <-late:
			t.Fatalf("%d messages have come", len(got))
		}
	}
}

// answers fails if the server has no time for anybody else: as a kubelet asks, on a connection of
// its own.
func (s *serving) answers(t *testing.T) {
	t.Helper()
	client := http.Client{Timeout: hung, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return s.lab.Dial(ctx, lab.Node, address)
		}}}
	resp, err := client.Post("http://"+s.address()+"/ingest", "", nil)
	if err != nil {
		t.Errorf("eproxy's connections keep the server from others: %v", err)
		return
	}
	_ = resp.Body.Close()
}
