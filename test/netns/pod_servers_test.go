package netns

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"eproxy/test/lib/lab"
)

// manner is a hostile setting of a server, or a behaviour of a function.
type manner struct {
	name        string
	concurrency int // slots per pod: few, where connections are to be used up
	messages    int
	window      int  // messages in flight
	whole       bool // the kernel path must take and response all
	attempts    bool // messages may need several
	qos1        bool // all messages: one with QoS 0 would still be in flight when the next comes
}

func manners() []manner {
	return []manner{
		{name: "close", concurrency: 4, messages: 24, window: 1},
		{name: "limit", concurrency: 1, messages: 3 * requestsPerConnection, window: 1},
		{name: "chunked", concurrency: 2, messages: 20, window: 1},
		{name: "slow", concurrency: 8, messages: 8, window: 8, whole: true},
		{name: "204", concurrency: 4, messages: 100, window: 1, whole: true},
		{name: "500", concurrency: 1, messages: 12, window: 1, attempts: true},
		{name: "idle", concurrency: 1, messages: 20, window: 1, whole: true, qos1: true}, // the last: it takes longest to happen
	}
}

// real is a kind of server that runs all manners, each at a port of its own.
type real struct {
	name     string
	port     int // of the first manner
	noBodies bool
	serve    func(t *testing.T, l *lab.Lab, fs functions, k real)
}

func (k real) function(m manner) string { return k.name + "-" + m.name }

// functions are what the functions got, by Host header.
type functions map[string]*recorder

func (fs functions) add(q request) {
	if r := fs[q.headers["host"]]; r != nil {
		r.add(q)
	}
}

func reals() []real {
	command := func(name string, args ...string) func(*testing.T, *lab.Lab, functions, real) {
		return func(t *testing.T, l *lab.Lab, fs functions, k real) {
			for i, m := range manners() {
				args = append(args, fmt.Sprintf("%d=%s", k.port+i, m.name))
			}
			serveCommand(t, l, fs.add, name, args...)
		}
	}
	return []real{
		{"go", 8100, false, serveGoManners},
		{"node", 8200, false, command("node", "servers/node.js")},
		{"nginx", 8300, true, serveNginxManners},
		{"python", 8400, false, command("python3", "servers/python.py")},
	}
}

// idleTimeout is the one that idle servers have.
const idleTimeout = 5 * time.Second

func serveGoManners(t *testing.T, l *lab.Lab, fs functions, k real) {
	behaviours := map[string]behaviour{"close": closing, "idle": ok, "limit": limited, "chunked": chunked, "slow": slow,
		"204": noContent, "500": everyThird}
	for i, m := range manners() {
		fs[k.function(m)+".local"].serveGoAt(t, l, false, k.port+i, behaviours[m.name], func(s *http.Server) {
			countPerConnection(s)
			s.IdleTimeout = time.Minute
			if m.name == "idle" {
				s.IdleTimeout = idleTimeout
			}
		})
	}
}

func serveNginxManners(t *testing.T, l *lab.Lab, fs functions, k real) {
	directives := map[string]string{
		"close":   "keepalive_timeout 0; " + nginxOK,
		"idle":    "keepalive_timeout 5s; " + nginxOK,
		"limit":   "keepalive_requests 100; " + nginxOK,
		"chunked": "ssi on; ssi_types *; " + nginxOK, // what includes may change has no length
		// some 150 bytes of head at once, the rest at this rate
		"slow": fmt.Sprintf("limit_rate 300; return 200 %q;", strings.Repeat("ok ", 200)),
		"204":  "return 204;",
		"500":  `if ($refuse) { return 500 "no\n"; } ` + nginxOK,
	}
	var servers []string
	for i, m := range manners() {
		servers = append(servers, nginxServer(k.port+i, directives[m.name]))
	}
	serveNginx(t, l, fs.add, k.port, servers...)
}

// mannersConfig has a function and a route for each manner of each server.
func mannersConfig() string {
	var fns, routes strings.Builder
	for _, k := range reals() {
		for i, m := range manners() {
			pods := fmt.Sprintf("%q", fmt.Sprintf("%s:%d", lab.PodAddr(lab.Pod0, false), k.port+i))
			if m.name != "idle" { // one connection, whose end can be waited for
				pods += fmt.Sprintf(", %q", fmt.Sprintf("%s:%d", lab.PodAddr(lab.Pod1, false), k.port+i))
			}
			name := k.function(m)
			fmt.Fprintf(&fns, "  - {name: %s, url: \"http://%s.local/ingest\", pods: [%s], concurrency: %d, retry: {attempts: 9, backoff: 5ms, max_backoff: 20ms}}\n",
				name, name, pods, m.concurrency)
			fmt.Fprintf(&routes, "  - {topic: sensors/+/%s, function: %s}\n", name, name)
		}
	}
	return "functions:\n" + fns.String() + "routes:\n" + routes.String()
}

// TestRealServers: each real server with each hostile setting. Every message
// arrives once with the right bytes and headers, again only after a failure;
// each gets its PUBACK and nothing else comes; the kernel path takes all that
// the servers do not make impossible.
func TestRealServers(t *testing.T) {
	for _, mode := range []string{"xdp", "tc", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			fs := functions{}
			for _, k := range reals() {
				for _, m := range manners() {
					fs[k.function(m)+".local"] = newRecorder()
				}
				k.serve(t, l, fs, k)
			}
			s := start(t, l, mode, mannersConfig())
			idle := map[string]*resting{}
			for _, k := range reals() { // their time runs while the others are tested
				idle[k.name] = rest(t, s, k, len(manners())-1)
			}
			for _, m := range manners() {
				for _, k := range reals() {
					t.Run(k.name+"/"+m.name, func(t *testing.T) {
						r := fs[k.function(m)+".local"]
						if m.name == "idle" {
							d := idle[k.name]
							d.t = t
							_ = d.SetDeadline(time.Now().Add(time.Minute))
							d.outlive(t, s)
							already := len(first(r.all()))
							d.write(publishPacket("sensors/"+d.id+"/"+k.function(m), 0, 0, "nobody would repeat it"))
							r.wait(t, already+1)
							oneManner(t, s, d.rawConn, d.id, r, k, m)
							return
						}
						id := fmt.Sprintf("c%d", serial.Add(1))
						oneManner(t, s, rawConnect(t, l, id), id, r, k, m)
					})
				}
			}
		})
	}
}

// oneManner publishes with a connection and checks what became of it.
func oneManner(t *testing.T, s *system, c *rawConn, id string, r *recorder, k real, m manner) {
	topic := "sensors/" + id + "/" + k.function(m)
	if m.whole {
		s.warm(t, topic, m.window+2) // the one with QoS 0 before is in flight, too
	}
	already := len(first(r.all()))
	taken, answered := s.routed(k.function(m))
	var ms []message
	for i := range m.messages {
		qos := byte(1)
		if i%3 == 0 && !m.qos1 {
			qos = 0
		}
		ms = append(ms, message{topic: topic, payload: fmt.Sprintf("%s message %d of %d", id, i, m.messages), qos: qos})
	}
	c.publishAll(ms, m.window)
	got := r.wait(t, already+len(ms))[already:]
	if m.attempts {
		got = attempts(t, r, already, ms)
	}
	checkRequests(t, got, ms, id, topic, k.function(m)+".local", k.noBodies)
	if s.mode == "fallback" {
		return
	}
	takenAfter, respondedAfter := s.routed(k.function(m))
	taken, answered = takenAfter-taken, respondedAfter-answered
	t.Logf("of %d messages the kernel took %d and answered %d", m.messages, taken, answered)
	// a few may meet before there is a connection for each
	if m.whole && (taken*100 < m.messages*95 || answered*100 < m.messages*95) {
		t.Errorf("of %d messages the kernel took %d and answered %d", m.messages, taken, answered)
	}
	if taken == 0 {
		t.Error("the kernel took nothing: the test tests nothing")
	}
}

// routed is how many messages of a function the kernel took and answered.
func (s *system) routed(function string) (taken, answered int) {
	s.t.Helper()
	if s.mode == "fallback" {
		return 0, 0
	}
	for _, r := range s.mapsctl("routes") {
		if r["function"] == function {
			taken += int(r["taken"].(float64))
			answered += int(r["answered"].(float64))
		}
	}
	return taken, answered
}

// attempts waits until all messages have come, those with QoS 1 until one of
// their attempts was a success, and returns each once. What came again has to be
// the same, byte for byte.
func attempts(t *testing.T, r *recorder, from int, ms []message) []request {
	t.Helper()
	served := 0
	for _, m := range ms {
		served += int(m.qos)
	}
	for want := from + len(ms); ; {
		all := r.wait(t, want)[from:]
		byID := map[string]request{}
		successes := map[string]bool{}
		var once []request
		for _, q := range all {
			id := q.headers["ce-id"]
			if before, again := byID[id]; !again {
				byID[id] = q
				once = append(once, q)
			} else if before.body != q.body || before.headers["ce-subject"] != q.headers["ce-subject"] {
				t.Errorf("ce-id %s with %q, and again with %q", id, before.body, q.body)
			}
			if q.number > 0 && q.number%3 == 0 || q.status == 200 {
				successes[id] = successes[id] || q.headers["x-mqtt-qos"] == "1"
			}
		}
		n := 0
		for _, qos1 := range successes {
			if qos1 {
				n++
			}
		}
		if len(once) == len(ms) && n == served {
			return once
		}
		want = from + len(all) + 1
	}
}

// resting is a device whose function's server is to close its connection.
type resting struct {
	*rawConn
	id, pod string
	old     []string // the node's connections to the pod
}

// rest delivers one message and leaves the connection that it went over alone.
func rest(t *testing.T, s *system, k real, i int) *resting {
	t.Helper()
	d := &resting{id: "idle-" + k.name, pod: fmt.Sprintf("%s:%d", lab.PodAddr(lab.Pod0, false), k.port+i)}
	d.rawConn = rawConnect(t, s.lab, d.id)
	d.publish("sensors/"+d.id+"/"+k.function(manners()[i]), 1, "first")
	if d.old = s.connections(d.pod); len(d.old) == 0 {
		t.Fatalf("no connection to %s", d.pod)
	}
	return d
}

// outlive waits until the server has closed the connections.
func (d *resting) outlive(t *testing.T, s *system) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(4 * idleTimeout); ; {
		now := s.connections(d.pod)
		gone := !slices.ContainsFunc(d.old, func(o string) bool { return slices.Contains(now, o) })
		if gone {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("connections to %s: %v, at first %v", d.pod, now, d.old)
		}
	}
}

// connections are the node's ends of established connections to a pod.
func (s *system) connections(pod string) []string {
	s.t.Helper()
	out, err := s.lab.Run(context.Background(), lab.Node, "ss", "-Htn", "state", "established", "dst", pod)
	if err != nil {
		s.t.Fatalf("ss: %v: %s", err, out)
	}
	var ends []string
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) >= 4 {
			ends = append(ends, f[2])
		}
	}
	return ends
}
