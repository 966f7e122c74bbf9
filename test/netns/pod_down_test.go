package netns

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"eproxy/internal/mqtt/samples"
	"eproxy/test/lib/lab"
)

// downConfig has three functions that are down, each in its way, with dead letters and without, and one that is up.
func downConfig(dir string) string {
	var functions, routes strings.Builder
	for kind, pod := range map[string]string{
		"refused": lab.PodAddr(lab.Pod0, false).String() + ":8081",
		"silent":  lab.PodAddr(lab.Pod1, false).String() + ":8081", // what comes to it is dropped
		"nobody":  "10.88.1.77:8080",                               // no pod has the address
	} {
		for _, name := range []string{kind, kind + "-dead"} {
			fmt.Fprintf(&functions, "  - name: %s\n    url: http://f.local/x\n    pods: [\"%s\"]\n    timeout: 1s\n    deadline: 3s\n"+
				"    retry: {attempts: 3, backoff: 10ms, max_backoff: 50ms}\n", name, pod)
			if name != kind {
				fmt.Fprintf(&functions, "    dead_letter: {file: %s}\n", filepath.Join(dir, name))
			}
			fmt.Fprintf(&routes, "  - {topic: %s/#, function: %s}\n", name, name)
		}
	}
	return "functions:\n  - {name: up, url: \"http://f.local/x\", pods: [\"" + lab.PodAddr(lab.Pod0, false).String() + ":8080\"]}\n" + functions.String() +
		"routes:\n  - {topic: up/#, function: up}\n" + routes.String() + metricsConfig
}

// downClient connects without an account, with a keep-alive in seconds.
func downClient(t *testing.T, l *lab.Lab, version byte, id string, keepAlive byte) *accountConn {
	t.Helper()
	c := &accountConn{rawDial(t, l), version}
	properties := ""
	if version == 5 {
		properties = samples.Properties()
	}
	hello := []byte(samples.Connect(version, 2, properties, samples.String(id)))
	hello[11] = keepAlive
	c.write(hello)
	if p := c.packet(); p[0] != 0x20 || p[3] != 0 {
		t.Fatalf("CONNACK % x", p)
	}
	return c
}

// publication is a PUBLISH packet.
func (c *accountConn) publication(qos byte, topic string, id int, payload string) []byte {
	fields := []string{samples.String(topic)}
	if qos > 0 {
		fields = append(fields, string([]byte{byte(id >> 8), byte(id)}))
	}
	if c.version == 5 {
		fields = append(fields, samples.Properties())
	}
	return []byte(samples.Packet(0x30|qos<<1, append(fields, payload)...))
}

// TestFunctionIsDown: a function that is down costs a client its messages to it, by the function's policy, and nothing
// else: PINGREQ and SUBSCRIBE are answered, and other functions get their messages.
func TestFunctionIsDown(t *testing.T) {
	for _, mode := range []string{"xdp", "tc", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			nft(t, l, lab.Pod1, "table inet silent { chain i { type filter hook input priority 0; tcp dport 8081 drop; }; }")
			dir := t.TempDir()
			start(t, l, mode, downConfig(dir))
			all := downs()
			for _, d := range all {
				d.c = downClient(t, l, d.version, strings.ReplaceAll(d.name(), " ", ""), 6) // an attempt that begins just before a deadline may take 3 s more
			}
			var clients sync.WaitGroup
			for _, d := range all {
				clients.Go(func() {
					if err := d.run(); err != nil {
						t.Errorf("%s: %v", d.name(), err)
					}
				})
			}
			clients.Wait()
			want := map[string]int{} // by outcome
			for _, d := range all {
				if d.dead {
					want["dead_letter"] += d.n
				} else if d.qos == 0 || d.version == 5 {
					want["given up"] += d.n
				}
			}
			waitSeries(t, l, func(s series) bool {
				dead, other := s.sum("eproxy_messages_total", `outcome="dead_letter"`), 0
				for _, o := range []string{"failed", "deadline", "overload"} {
					other += s.sum("eproxy_messages_total", `outcome="`+o+`"`)
				}
				return dead == want["dead_letter"] && other >= want["given up"] // and some of MQTT 3.1.1
			})
			lines := 0
			for _, kind := range []string{"refused", "silent", "nobody"} {
				b, err := os.ReadFile(filepath.Join(dir, kind+"-dead"))
				if err != nil {
					t.Fatal(err)
				}
				lines += strings.Count(string(b), "\n")
			}
			if lines != want["dead_letter"] {
				t.Errorf("%d dead letters, want %d", lines, want["dead_letter"])
			}
		})
	}
}

// down are messages of a client to a function that is down.
type down struct {
	c       *accountConn
	kind    string
	dead    bool // the function has dead letters
	version byte
	qos     byte
	n       int
}

// downs are the cases of TestFunctionIsDown.
func downs() (all []*down) {
	for _, kind := range []string{"refused", "silent", "nobody"} {
		for _, version := range []byte{4, 5} {
			for qos := range byte(3) {
				for _, dead := range []bool{false, true} {
					n := 40
					if kind == "refused" && version == 5 && qos == 0 {
						n = 2000
					}
					all = append(all, &down{kind: kind, dead: dead, version: version, qos: qos, n: n})
				}
			}
		}
	}
	return all
}

func (d *down) function() string {
	if d.dead {
		return d.kind + "-dead"
	}
	return d.kind
}

func (d *down) name() string { return fmt.Sprintf("%s MQTT %d QoS %d", d.function(), d.version, d.qos) }

// send sends all messages, then what must be answered in spite of them.
func (d *down) send() error {
	properties := ""
	if d.version == 5 {
		properties = samples.Properties()
	}
	var all []byte
	for i := range d.n {
		all = append(all, d.c.publication(d.qos, d.function()+"/x", 100+i, "payload")...)
	}
	all = append(all, "\xc0\x00"+samples.Packet(0x82, "\x00\x01", properties, samples.String("t"), "\x00")...)
	_, err := d.c.Write(append(all, d.c.publication(1, "up/x", 2, d.name())...))
	return err
}

// run sends everything and sees how it ends.
func (d *down) run() error {
	if err := d.send(); err != nil {
		return err
	}
	left := map[byte]int{0xd0: 1, 0x90: 1, 0x40: 1}
	if d.qos > 0 {
		left[[]byte{0, 0x40, 0x50}[d.qos]] += d.n
	}
	silent := d.version == 4 && d.qos > 0 && !d.dead // MQTT 3.1.1 has no way to say no but to end the connection
	for sum(left) > 0 {
		p, err := d.c.next()
		if err != nil && silent && !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w, and these packets are missing: %v", err, left)
		}
		left[p[0]]--
		if failed := len(p) > 4 && p[4] >= 0x80; (p[0] == 0x40 || p[0] == 0x50) && string(p[2:4]) != "\x00\x02" && failed == d.dead {
			return fmt.Errorf("answered % x", p)
		}
	}
	if silent {
		return errors.New("what was not delivered is acknowledged")
	}
	return nil
}

func sum(m map[byte]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

// TestPodDiesIdle: a pod of the kernel path goes while nothing happens. What comes then ends by the policy, and when
// it is back, messages are taken again.
func TestPodDiesIdle(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			address := net.JoinHostPort(lab.PodAddr(lab.Pod0, false).String(), "8080")
			serve := func() (stop func()) {
				ln, err := l.Listen(lab.Pod0, address)
				if err != nil {
					t.Fatal(err)
				}
				srv := &http.Server{Handler: r.handler(ok)}
				go func() { _ = srv.Serve(ln) }()
				return func() { _ = srv.Close() }
			}
			stop := serve()
			config := strings.NewReplacer(`"%s", "%s"`, `"`+address+`"`, "DEAD", "deadline: 3s").Replace(failureConfig) + metricsConfig
			s := start(t, l, mode, config)
			c := downClient(t, l, 5, "dev", 60)
			if code, end := c.answer("sensors/dev/temp", 1, "first"); code != 0 || end {
				t.Fatalf("reason code %#x, ended %v", code, end)
			}
			stop()
			for i := range 2 {
				if code, end := c.answer("sensors/dev/temp", uint16(2+i), "down"); code < 0x80 || end {
					t.Errorf("reason code %#x, ended %v", code, end)
				}
			}
			defer serve()()
			before := s.counts()
			for i := 0; ; i++ {
				if code, end := c.answer("sensors/dev/temp", uint16(10+i), "back"); end {
					t.Fatalf("reason code %#x, ended", code)
				}
				if taken, _ := share(before, s.counts()); taken > 0 {
					break
				}
			}
		})
	}
}

// TestDeadlineOfFailing: retries end with the deadline, too, whichever path made the first attempt.
func TestDeadlineOfFailing(t *testing.T) {
	for _, mode := range []string{"xdp", "tc", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, func(_ int64, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, nil)
			config := strings.NewReplacer("attempts: 4", "attempts: 100", "max_backoff: 50ms", "max_backoff: 10s", "DEAD", "deadline: 2s")
			s := start(t, l, mode, config.Replace(podConfig(failureConfig, false))+metricsConfig)
			c := downClient(t, l, 5, "dev", 60)
			if code, end := c.answer("sensors/dev/temp", 1, "x"); code != 0x80 || end {
				t.Errorf("reason code %#x, ended %v", code, end)
			}
			waitSeries(t, l, func(s series) bool { return s.sum("eproxy_messages_total", `outcome="deadline"`) == 1 })
			if mode != "fallback" && s.counts()["control/taken_over"] == 0 {
				t.Errorf("the kernel path did not have it: %v", s.counts())
			}
		})
	}
}
