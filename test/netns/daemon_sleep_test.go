package netns

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/swap"
)

// asFunction, in the environment, has this program serve as a function that says what it gets.
const asFunction = "EPROXY_TEST_FUNCTION"

// serveFunction is what it does then.
func serveFunction() {
	handler := http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) { fmt.Println(q.Header.Get("ce-subject")) })
	fmt.Fprintln(os.Stderr, http.ListenAndServe(":"+os.Getenv("PORT"), handler)) //nolint:gosec // of a test
}

// sleepers are functions that sleep, one for each kind of server; each says the topics of the messages that it gets. Node's, gunicorn's and
// uvicorn's keep an idle connection for 5, 2 and 5 s.
const sleepers = `
listeners: [{address: ":1883"}]
functions:
  - {name: go, url: "http://go.local/", run: {command: [%[1]q], env: {EPROXY_TEST_FUNCTION: "1"}, idle: 1s}}
  - {name: node, url: "http://node.local/", run: {command: [node, -e, "require('http').createServer((q, s) => q.resume().on('end', () => { console.log(q.headers['ce-subject']); s.end('ok') })).listen(process.env.PORT)"], idle: 1s}}
  - {name: python, url: "http://python.local/", run: {command: [/usr/bin/python3, -u, -c, %[2]q], idle: 1s}}
  - {name: gunicorn, url: "http://gunicorn.local/", run: {command: [/usr/bin/gunicorn, --chdir, %[3]q, --threads, "2", --worker-tmp-dir, /dev/shm, "sleeper:wsgi"], idle: 1s}}
  - {name: uvicorn, url: "http://uvicorn.local/", run: {command: [/usr/bin/uvicorn, --app-dir, %[3]q, --host, 0.0.0.0, --port, "8080", --log-level, warning, "sleeper:asgi"], idle: 1s}}
routes:
  - {topic: "s/+/go", function: go}
  - {topic: "s/+/node", function: node}
  - {topic: "s/+/python", function: python}
  - {topic: "s/+/gunicorn", function: gunicorn}
  - {topic: "s/+/uvicorn", function: uvicorn}
`

const sleeperPython = `
import http.server, os
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_POST(self):
        self.rfile.read(int(self.headers['Content-Length']))
        print(self.headers['ce-subject'])
        self.send_response(200); self.send_header('Content-Length', '0'); self.end_headers()
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(('', int(os.environ['PORT'])), H).serve_forever()`

const sleeperModule = `
def wsgi(environ, start):
    environ['wsgi.input'].read()
    print(environ['HTTP_CE_SUBJECT'], flush=True)
    start('200 OK', [('Content-Length', '0')])
    return []

async def asgi(scope, receive, send):
    if scope['type'] != 'http': return
    while (await receive()).get('more_body'): pass
    print(dict(scope['headers'])[b'ce-subject'].decode(), flush=True)
    await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-length', b'0')]})
    await send({'type': 'http.response.body'})
`

// sleepersConfig has what the functions need where anybody can read it.
func sleepersConfig(t *testing.T) string {
	t.Helper()
	function := copyFunction(t)
	dir := filepath.Dir(function)
	if err := os.WriteFile(filepath.Join(dir, "sleeper.py"), []byte(sleeperModule), 0o644); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(sleepers, function, sleeperPython, dir)
}

// inState waits until the instances of so many functions are in a state, and returns how often each was started.
func (s *system) inState(state string, functions int) map[string]float64 {
	s.t.Helper()
	starts := make(map[string]float64)
	until(s.t, fmt.Sprintf("%d instances to be %s", functions, state), func() bool {
		n := 0
		for _, row := range s.mapsctl("instances") {
			if row["state"] == state {
				n++
			}
			starts[row["function"].(string)] = row["starts"].(float64)
		}
		return n == functions
	})
	return starts
}

// TestSleepingFunctions: functions that are frozen, also for longer than their servers keep idle connections, answer the message
// that wakes them: each gets it once, in the kernel path, as the process that it was.
func TestSleepingFunctions(t *testing.T) {
	const keepAlive = 5 * time.Second // no server here keeps an idle connection for longer
	l := newLab(t)
	s := start(t, l, "tc", sleepersConfig(t))
	names := []string{"go", "node", "python", "gunicorn", "uvicorn"}
	s.inState("ready", len(names))
	c := rawConnect(t, l, "d")
	id, sent := uint16(0), []string(nil)
	deliver := func(round string) {
		for _, name := range names {
			id++
			topic := fmt.Sprintf("s/%s/%s", round, name)
			sent = append(sent, topic)
			began := time.Now()
			c.publish(topic, id, "x")
			t.Logf("%s, %s: PUBACK after %s", round, name, time.Since(began).Round(time.Microsecond))
		}
	}
	deliver("awake")
	for _, round := range []string{"short", "long"} {
		s.inState("frozen", len(names))
		if round == "long" {
			time.Sleep(keepAlive + 500*time.Millisecond) // what is tested is that this passes
		}
		before := s.counts()
		deliver(round)
		if taken, _ := share(before, s.counts()); taken != len(names) {
			t.Errorf("%s: %d of %d messages were taken in the kernel", round, taken, len(names))
		}
	}
	for name, n := range s.inState("frozen", len(names)) {
		if n != 1 {
			t.Errorf("%s was started %v times", name, n)
		}
	}
	for _, topic := range sent {
		if n := strings.Count(s.Log()+"\n", "line="+topic+"\n"); n != 1 {
			t.Errorf("the message to %s was delivered %d times", topic, n)
		}
	}
	if s.counts()["control/taken_over"] > 0 {
		t.Errorf("userspace took messages over: %v", s.counts())
	}
	// Whoever connects wakes one, too.
	conn, err := l.Dial(t.Context(), lab.Node, s.address("go"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s.inState("ready", 1)
}

// TestPagedOutFunctions: functions whose memory is in swap answer the message that wakes them as those do that are only frozen: each
// gets it once, in the kernel path, as the process that it was.
func TestPagedOutFunctions(t *testing.T) {
	swap.On(t)
	l := newLab(t)
	s := start(t, l, "tc", metricsConfig+strings.ReplaceAll(sleepersConfig(t), "idle: 1s", "idle: 1s, page_out: 1s"))
	names := []string{"go", "node", "python", "gunicorn", "uvicorn"}
	s.inState("ready", len(names))
	c := rawConnect(t, l, "d")
	awake := scrapeSeries(t, l).sum("eproxy_instance_memory_bytes")
	for round := range 3 { // in the first they are awake
		for n, name := range names {
			if round > 0 {
				s.inState("paged-out", len(names))
			}
			before := s.counts()
			topic := fmt.Sprintf("s/%d/%s", round, name)
			began := time.Now()
			c.publish(topic, uint16(round*len(names)+n+1), "x")
			t.Logf("%s: PUBACK after %s", topic, time.Since(began).Round(time.Microsecond))
			if taken, _ := share(before, s.counts()); taken != 1 && round > 0 {
				t.Errorf("%s was not taken in the kernel", topic)
			}
		}
	}
	for name, n := range s.inState("paged-out", len(names)) {
		if n != 1 {
			t.Errorf("%s was started %v times", name, n)
		}
	}
	now := scrapeSeries(t, l)
	// Pages of files stay, as far as others have them, too.
	if asleep := now.sum("eproxy_instance_memory_bytes"); asleep > awake*3/4 || now.sum("eproxy_instances", `state="paged-out"`) != len(names) {
		t.Errorf("%d bytes, awake %d", asleep, awake)
	} else {
		t.Logf("awake they had %d MiB, paged out %d", awake>>20, asleep>>20)
	}
	for round := range 3 {
		for _, name := range names {
			if n := strings.Count(s.Log()+"\n", fmt.Sprintf("line=s/%d/%s\n", round, name)); n != 1 {
				t.Errorf("the message %d to %s was delivered %d times", round, name, n)
			}
		}
	}
}

// address is where a function's instance listens.
func (s *system) address(function string) string {
	s.t.Helper()
	for _, row := range s.mapsctl("instances") {
		if row["function"] == function {
			return row["pod"].(string)
		}
	}
	s.t.Fatal("no instance of " + function)
	return ""
}
