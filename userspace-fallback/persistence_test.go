package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"eproxy/test/lib/address"
	"eproxy/test/lib/await"
)

// childConfig names the configuration that this program, run again, serves.
const childConfig = "EPROXY_TEST_SERVE"

func TestMain(m *testing.M) {
	file := os.Getenv(childConfig)
	if file == "" {
		os.Exit(m.Run())
	}
	if err := serve(context.Background(), file, slog.New(slog.NewTextHandler(os.Stdout, nil))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// node is a fallback in a process of its own, with a function, that can be killed.
type node struct {
	t       *testing.T
	addr    string
	file    string
	process *exec.Cmd
	mu      sync.Mutex
	got     []string // ce-id and payload of each request, in order
	hold    chan struct{}
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{t: t}
	fn := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		n.mu.Lock()
		n.got = append(n.got, r.Header.Get("ce-id")+" "+string(b))
		hold := n.hold
		n.mu.Unlock()
		if hold != nil {
			<-hold
		}
	}))
	t.Cleanup(fn.Close)
	n.addr = address.Free(t)
	dir := t.TempDir()
	n.file = filepath.Join(dir, "eproxy.yaml")
	text := fmt.Sprintf(`listeners: [{address: %q}]
functions: [{name: f, url: "http://f.local/", pods: [%q]}]
routes: [{topic: "in/#", function: f}]
persistence: {dir: %q}
`, n.addr, fn.Listener.Addr(), filepath.Join(dir, "sessions"))
	if err := os.WriteFile(n.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	t.Cleanup(n.kill)
	return n
}

// start returns when clients can connect.
func (n *node) start() {
	n.t.Helper()
	n.process = exec.Command(os.Args[0])
	n.process.Env = append(os.Environ(), childConfig+"="+n.file)
	out, err := n.process.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	n.process.Stderr = n.process.Stdout
	if err := n.process.Start(); err != nil {
		n.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var log strings.Builder
	for lines.Scan() {
		if fmt.Fprintln(&log, lines.Text()); strings.Contains(lines.Text(), "msg=serving") {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return
		}
	}
	n.t.Fatalf("it did not start:\n%s", log.String())
}

// kill is kill -9.
func (n *node) kill() {
	_ = n.process.Process.Kill()
	_ = n.process.Wait()
}

func (n *node) restart() {
	n.t.Helper()
	n.kill()
	n.start()
}

func (n *node) requests() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.got...)
}

// until waits for something that must come.
func (n *node) until(what string, ok func() bool) {
	n.t.Helper()
	await.True(n.t, time.Minute, what, ok)
}

// device is a client of MQTT 3.1.1 that acknowledges only what it is told to.
type device struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

// connect connects with a session that outlives the connection; present is what CONNACK must say of it.
func (n *node) connect(id string, present bool) *device {
	n.t.Helper()
	c, err := net.Dial("tcp", n.addr)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	d := &device{c, n.t, bufio.NewReader(c)}
	d.send(0x10, append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 0}, text(id)...))
	want := "20 0000"
	if present {
		want = "20 0100"
	}
	d.expect(want)
	return d
}

func text(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }

func (d *device) send(first byte, body []byte) {
	d.t.Helper()
	if len(body) > 127 {
		d.t.Fatal("too long")
	}
	if _, err := d.Write(append([]byte{first, byte(len(body))}, body...)); err != nil {
		d.t.Fatal(err)
	}
}

func (d *device) publish(first byte, topic string, id uint16, payload string) {
	d.t.Helper()
	d.send(0x30|first, append(binary.BigEndian.AppendUint16(text(topic), id), payload...))
}

func (d *device) ack(first byte, id uint16) {
	d.t.Helper()
	d.send(first, binary.BigEndian.AppendUint16(nil, id))
}

// next is a packet, as its first byte and its body.
func (d *device) next() (first byte, body []byte, err error) {
	if first, err = d.r.ReadByte(); err != nil {
		return 0, nil, err
	}
	length, err := d.r.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, length)
	_, err = io.ReadFull(d.r, body)
	return first, body, err
}

func (d *device) expect(want string) {
	d.t.Helper()
	first, body, err := d.next()
	if got := fmt.Sprintf("%02x %x", first, body); err != nil || got != want {
		d.t.Fatalf("packet %s (%v), want %s", got, err, want)
	}
}

// message reads a PUBLISH of QoS 1 or 2.
func (d *device) message() (first byte, id uint16, payload string) {
	d.t.Helper()
	first, body, err := d.next()
	if err != nil || first>>4 != 3 {
		d.t.Fatalf("packet %02x %x (%v), want PUBLISH", first, body, err)
	}
	body = body[2+binary.BigEndian.Uint16(body):]
	return first, binary.BigEndian.Uint16(body), string(body[2:])
}

// TestKilledWithinQoS2: a message of QoS 2 to a function is delivered once over restarts with kill -9, but for the one
// that its function has, and whose answer was not kept: it has the same ce-id.
func TestKilledWithinQoS2(t *testing.T) {
	n := newNode(t)
	hold := make(chan struct{})
	n.hold = hold
	d := n.connect("device", false)
	d.publish(4, "in/a", 1, "unanswered")
	n.until("the request", func() bool { return len(n.requests()) == 1 })
	n.restart()
	n.mu.Lock()
	n.hold = nil
	n.mu.Unlock()
	close(hold)
	d = n.connect("device", true)
	d.publish(4|8, "in/a", 1, "unanswered")
	d.expect("50 0001")
	d.publish(4, "in/a", 2, "answered")
	d.expect("50 0002")
	n.restart()
	d = n.connect("device", true)
	d.publish(4|8, "in/a", 2, "answered") // it may not have got PUBREC
	d.expect("50 0002")
	d.publish(4|8, "in/a", 1, "unanswered")
	d.expect("50 0001")
	d.ack(0x62, 1)
	d.expect("70 0001")
	n.restart()
	d = n.connect("device", true)
	d.ack(0x62, 2)
	d.expect("70 0002")
	n.restart()
	d = n.connect("device", true)
	d.publish(4|8, "in/a", 2, "another") // the one before is released: this is a new one, and what was sent of it first is lost
	d.expect("50 0002")
	got := n.requests()
	if len(got) != 4 || got[0] != got[1] || !strings.HasSuffix(got[2], " answered") || !strings.HasSuffix(got[3], " another") {
		t.Errorf("the function got %q", got)
	}
}

// TestKilledUnderSubscribers: what the publisher has an acknowledgement of, of QoS 1 and 2, each subscriber gets, whenever
// the program is killed; and so are retained messages kept.
func TestKilledUnderSubscribers(t *testing.T) {
	n := newNode(t)
	s := n.connect("subscriber", false)
	s.send(0x82, append([]byte{0, 1}, append(text("out/#"), 2)...))
	s.expect("90 000102")
	acked := make(map[string]bool)
	seen := make(map[string]int)
	for round := range 4 {
		p := n.connect("publisher", round > 0)
		var mu sync.Mutex
		var reading sync.WaitGroup
		base := uint16(round*200 + 1)
		reading.Go(func() { // until the kill
			for {
				first, body, err := p.next()
				if err != nil {
					return
				}
				if first == 0x40 || first == 0x50 {
					mu.Lock()
					acked[fmt.Sprint(binary.BigEndian.Uint16(body))] = true
					mu.Unlock()
				}
			}
		})
		for i := range uint16(100) {
			qos := byte(2) << (i % 2)
			p.publish(qos, "out/x", base+i, fmt.Sprint(base+i))
		}
		enough := (round + 1) * 30
		n.until("acknowledgements", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(acked) >= enough
		})
		n.restart()
		_ = p.Close()
		reading.Wait()
		s = n.connect("subscriber", true)
		missing := func() (out []string) {
			for m := range acked {
				if seen[m] == 0 {
					out = append(out, m)
				}
			}
			return out
		}
		for len(missing()) > 0 {
			if payload := s.serve(); payload != "" {
				seen[payload]++
			}
		}
	}
	p := n.connect("keeper", false)
	p.publish(2|1, "kept", 7, "retained")
	p.expect("40 0007")
	n.restart()
	r := n.connect("reader", false)
	r.send(0x82, append([]byte{0, 1}, append(text("kept"), 1)...))
	r.expect("90 000101")
	if first, _, payload := r.message(); payload != "retained" || first&1 == 0 {
		t.Errorf("message %02x %q, want the retained one", first, payload)
	}
}

// serve reads a packet and does what MQTT wants; it returns the payload, if it is a message.
func (d *device) serve() string {
	d.t.Helper()
	first, body, err := d.next()
	switch {
	case err != nil:
		d.t.Fatal(err)
	case first == 0x62:
		d.ack(0x70, binary.BigEndian.Uint16(body))
	case first>>4 == 3:
		body = body[2+binary.BigEndian.Uint16(body):]
		d.ack(0x40+first&4<<2, binary.BigEndian.Uint16(body)) // PUBACK, or PUBREC for QoS 2
		return string(body[2:])
	default:
		d.t.Fatalf("packet %02x %x, want PUBLISH", first, body)
	}
	return ""
}

// TestKilledBetweenPubrecAndPubrel: a subscriber that has received a message of QoS 2 does not get it again.
func TestKilledBetweenPubrecAndPubrel(t *testing.T) {
	n := newNode(t)
	s := n.connect("subscriber", false)
	s.send(0x82, append([]byte{0, 1}, append(text("out"), 2)...))
	s.expect("90 000102")
	p := n.connect("publisher", false)
	p.publish(4, "out", 9, "once")
	p.expect("50 0009")
	_, id, _ := s.message()
	s.ack(0x50, id)
	s.expect(fmt.Sprintf("62 %04x", id))
	n.restart()
	s = n.connect("subscriber", true)
	s.expect(fmt.Sprintf("62 %04x", id))
	s.ack(0x70, id)
	s.send(0xc0, nil)
	s.expect("d0 ")
	n.restart()
	s = n.connect("subscriber", true)
	s.send(0xc0, nil)
	first, _, err := s.next()
	if err == nil && first == 0x62 { // PUBCOMP has no acknowledgement: the disk need not have had it
		first, _, err = s.next()
	}
	if err != nil || first != 0xd0 {
		t.Errorf("packet %02x (%v)", first, err)
	}
}

// TestDamagedSessions: the program does not start with a damaged file, in one line, and leaves it as it is.
func TestDamagedSessions(t *testing.T) {
	n := newNode(t)
	n.connect("device", false)
	n.kill()
	file := filepath.Join(filepath.Dir(n.file), "sessions", "sessions.db")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if i, err := os.Stat(file); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v)", i.Mode(), err)
	}
	b = bytes.ReplaceAll(b, []byte(`"version":4`), []byte(`"version":5`))
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	n.process = exec.Command(os.Args[0])
	n.process.Env = append(os.Environ(), childConfig+"="+n.file)
	var errs bytes.Buffer
	n.process.Stderr = &errs
	err = n.process.Run()
	if code, ok := n.process.ProcessState.Sys().(syscall.WaitStatus); err == nil || !ok || code.ExitStatus() != 1 {
		t.Errorf("it ended with %v", err)
	}
	if got := errs.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, file) || !strings.Contains(got, "damaged") {
		t.Errorf("it said %q", got)
	}
	if after, _ := os.ReadFile(file); !bytes.Equal(after, b) {
		t.Error("the file was changed")
	}
}
