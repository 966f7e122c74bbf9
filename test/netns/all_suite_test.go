package netns

import (
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"eproxy/test/lib/lab"
)

// server is a kind of function.
type server struct {
	name string
	// hostile servers close connections or response so that userspace must help;
	// there the share of the kernel is not checked.
	hostile  bool
	noBodies bool // it does not show request bodies
	messages int  // per client, 0: the default
	serve    func(t *testing.T, l *lab.Lab, r *recorder, ipv6 bool)
}

func goServer(b behaviour, change func(*http.Server)) func(*testing.T, *lab.Lab, *recorder, bool) {
	return func(t *testing.T, l *lab.Lab, r *recorder, ipv6 bool) { r.serveGo(t, l, ipv6, b, change) }
}

func servers() []server {
	command := func(name string, args ...string) func(*testing.T, *lab.Lab, *recorder, bool) {
		return func(t *testing.T, l *lab.Lab, r *recorder, _ bool) { serveCommand(t, l, r.add, name, args...) }
	}
	return []server{
		{name: "go", serve: goServer(ok, nil)},
		{name: "node", serve: command("node", "servers/node.js", "8080")},
		{name: "python", serve: command("python3", "servers/python.py", "8080")},
		{name: "nginx", noBodies: true, serve: func(t *testing.T, l *lab.Lab, r *recorder, _ bool) {
			serveNginx(t, l, r.add, 8080, nginxServer(8080, nginxOK))
		}},
		{name: "go-204", serve: goServer(noContent, nil)},
		{name: "go-close", hostile: true, serve: goServer(closing, nil)},
		{name: "go-idle", hostile: true, serve: goServer(ok, func(s *http.Server) { s.IdleTimeout = 200 * time.Millisecond })},
		{name: "go-limit", hostile: true, serve: goServer(func(n int64, w http.ResponseWriter, r *http.Request) {
			if n%7 == 0 {
				closing(n, w, r)
				return
			}
			ok(n, w, r)
		}, nil)},
		{name: "go-chunked", hostile: true, serve: goServer(chunked, nil)},
		{name: "go-big", serve: goServer(func(_ int64, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(20000))
			_, _ = w.Write(make([]byte, 20000))
		}, nil)},
		{name: "go-slow", hostile: true, messages: 2, serve: goServer(slow, nil)},
	}
}

const routeConfig = `functions:
  - name: temp
    url: http://temp.local/ingest
    pods: ["%s", "%s"]
    retry: {attempts: 5, backoff: 20ms}
routes:
  - topic: sensors/+/temp
    function: temp
`

func podConfig(format string, ipv6 bool) string {
	addr := func(r lab.Role) string {
		if ipv6 {
			return "[" + lab.PodAddr(r, true).String() + "]:8080"
		}
		return lab.PodAddr(r, false).String() + ":8080"
	}
	return fmt.Sprintf(format, addr(lab.Pod0), addr(lab.Pod1))
}

// TestEveryClientAndFunction: every client against the Go function, every function with three
// clients, over both families, at XDP, at TC, and in the fallback alone. Every
// message arrives once with the right bytes and headers; every QoS 1 message is
// acknowledged; what is eligible goes through the kernel.
func TestEveryClientAndFunction(t *testing.T) {
	for _, mode := range []string{"xdp", "tc", "fallback"} {
		for _, ipv6 := range []bool{false, true} {
			for si, srv := range servers() {
				t.Run(fmt.Sprintf("%s/%s/%s", mode, family(ipv6), srv.name), func(t *testing.T) {
					l := newLab(t)
					r := newRecorder()
					srv.serve(t, l, r, ipv6)
					s := start(t, l, mode, podConfig(routeConfig, ipv6))
					list := clients()
					if si > 0 {
						list = []client{list[0], list[4], list[6]}
					}
					for _, c := range list {
						t.Run(c.name, func(t *testing.T) { oneClient(t, s, r, c, srv, ipv6) })
					}
				})
			}
		}
	}
}

func family(ipv6 bool) string {
	if ipv6 {
		return "ipv6"
	}
	return "ipv4"
}

// serial makes client ids unique.
var serial atomic.Int64

func oneClient(t *testing.T, s *system, r *recorder, c client, srv server, ipv6 bool) {
	if !ipv6 && !srv.hostile { // the device that it is done with has an IPv4 address
		s.warm(t, "sensors/warm/temp", 8)
	}
	before, already := s.counts(), len(first(r.all()))
	id := fmt.Sprintf("c%d", serial.Add(1))
	topic := "sensors/" + id + "/temp"
	n := 20
	if srv.messages > 0 {
		n = srv.messages
	}
	var ms []message
	for i := range n {
		ms = append(ms, message{topic: topic, payload: fmt.Sprintf("%s message %d of %d", id, i, n), qos: byte(i % 2)})
	}
	if err := c.publish(t, s.lab, lab.NodeAddr(ipv6).String(), id, ms); err != nil {
		t.Fatal(err)
	}
	got := r.wait(t, already+n)[already:]
	checkRequests(t, got, ms, id, topic, "temp.local", srv.noBodies)
	if s.mode == "fallback" || srv.hostile {
		return
	}
	after := s.counts()
	taken, eligible := share(before, after)
	if eligible == 0 && !c.merges || taken*100 < eligible*95 {
		t.Errorf("the kernel took %d of %d eligible messages: %v", taken, eligible, after)
	}
	// Clients may put several PUBLISHes into one segment now and then; most come alone.
	if !c.merges && taken*2 < n {
		t.Errorf("the kernel took %d of %d messages: %v", taken, n, after)
	}
}

func first(r []request, _ <-chan struct{}) []request { return r }

// checkRequests: each message exactly once, with its headers.
func checkRequests(t *testing.T, got []request, ms []message, id, topic, host string, noBodies bool) {
	t.Helper()
	want := make(map[string]byte)
	for _, m := range ms {
		want[m.payload] = m.qos
	}
	ids := make(map[string]bool)
	for _, q := range got {
		qos := ""
		if !noBodies {
			level, expected := want[q.body]
			if !expected {
				t.Errorf("unexpected or repeated message %q", q.body)
				continue
			}
			delete(want, q.body)
			if level == 1 {
				qos = "1"
			}
			if q.headers["x-mqtt-qos"] != qos {
				t.Errorf("%q: X-Mqtt-Qos %q, want %q", q.body, q.headers["x-mqtt-qos"], qos)
			}
			if q.headers["content-length"] != fmt.Sprint(len(q.body)) {
				t.Errorf("%q: Content-Length %q", q.body, q.headers["content-length"])
			}
		}
		for name, value := range map[string]string{"host": host, "ce-specversion": "1.0", "ce-type": "mqtt.publish",
			"ce-source": "eproxy/" + id, "ce-subject": topic} {
			if q.headers[name] != value {
				t.Errorf("%q: %s is %q, want %q", q.body, name, q.headers[name], value)
			}
		}
		if ce := q.headers["ce-id"]; ce == "" || ids[ce] {
			t.Errorf("ce-id %q is empty or repeated", ce)
		} else {
			ids[ce] = true
		}
	}
	if noBodies && len(got) != len(ms) || !noBodies && len(want) > 0 {
		t.Errorf("%d messages arrived, missing: %v", len(got), want)
	}
}
