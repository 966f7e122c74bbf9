package netns

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/test/lib/lab"
)

// mixedSteps is how many things the client does on its one connection.
const mixedSteps = 10000

// stepper is a client that does one thing at a time and checks what comes back.
type stepper struct {
	t       *testing.T
	conn    net.Conn
	in      chan packets.Packet
	id      uint16
	rng     *rand.Rand
	expect  map[string]bool // payloads that the function must get
	deliver map[string]bool // payloads that must come back to us
}

// TestMixedPackets alternates eligible PUBLISHes with everything that belongs to the
// socket, on one connection, in random order: nothing lost, nothing twice,
// nothing stalled, a clean end, and captures on both sides in which TCP looks
// flawless.
func TestMixedPackets(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) { mixed(t, mode) })
	}
}

func mixed(t *testing.T, mode string) {
	seed := seedOf(t)
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	s := start(t, l, mode, podConfig(routeConfig, false))
	ordered(t, l, lab.Dev, lab.Node, lab.Pod0, lab.Pod1)
	patient(t, l, lab.Dev, lab.Node, lab.Pod0, lab.Pod1)
	stopDev := capture(t, l, lab.Dev, "eth0")
	stopPod := capture(t, l, lab.Pod0, "eth0")
	conn, err := l.Dial(context.Background(), lab.Dev, net.JoinHostPort(lab.NodeV4.String(), "1883"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := &stepper{t: t, conn: conn, in: make(chan packets.Packet, 1024), rng: rand.New(rand.NewPCG(seed, 1)),
		expect: map[string]bool{}, deliver: map[string]bool{}}
	c.connect()
	for i := range mixedSteps {
		c.step(i)
	}
	if len(c.deliver) > 0 {
		t.Errorf("%d messages did not come back", len(c.deliver))
	}
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	if _, open := <-c.in; open {
		t.Error("a packet after DISCONNECT")
	}
	got := r.wait(t, len(c.expect))
	for _, q := range got {
		key := digest(q.body)
		if !c.expect[key] {
			t.Fatalf("unexpected or repeated message of %d bytes", len(q.body))
		}
		delete(c.expect, key)
	}
	if len(c.expect) > 0 {
		t.Errorf("%d messages lost", len(c.expect))
	}
	counts := s.counts()
	taken, eligible := share(nil, counts)
	t.Logf("taken in the kernel: %d of %d eligible", taken, eligible)
	if taken == 0 || taken*100 < eligible*99 {
		t.Errorf("the kernel took %d of %d eligible messages: %v", taken, eligible, counts)
	}
	conn.Close()
	checkCapture(t, stopDev())
	checkCapture(t, stopPod())
}

// ordered makes the hosts' links keep the order of packets, as a network card's
// queue does. A veth has a queue per processor that sends, and a socket sends on
// two: from its program, and when an acknowledgement comes.
func ordered(t *testing.T, l *lab.Lab, hosts ...lab.Role) {
	t.Helper()
	for _, h := range hosts {
		// ip netns exec has a sysfs of that namespace
		script := "set -e; for f in /sys/class/net/*/queues/rx-0/rps_cpus; do echo 1 > $f; done"
		if out, err := exec.Command("ip", "netns", "exec", l.Name(h), "sh", "-c", script).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

// patient keeps the hosts' TCP from sending anything again because of a timer: on a
// machine that is busy for 200 ms that is no fault. What is really lost comes again after 5 s, and is found then.
func patient(t *testing.T, l *lab.Lab, hosts ...lab.Role) {
	t.Helper()
	for _, h := range hosts {
		script := "set -e; echo 0 > /proc/sys/net/ipv4/tcp_early_retrans; ip route show | while read -r r; do ip route change $r rto_min 5s; done"
		if out, err := exec.Command("ip", "netns", "exec", l.Name(h), "sh", "-c", script).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

func digest(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:8])
}

func (c *stepper) connect() {
	go c.read()
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4,
		Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), Clean: true, ClientIdentifier: "mixed"}})
	c.take(packets.Connack)
}

// read decodes what the server sends.
func (c *stepper) read() {
	defer close(c.in)
	buf := make([]byte, 0, 1<<16)
	chunk := make([]byte, 1<<16)
	for {
		n, err := c.conn.Read(chunk)
		buf = append(buf, chunk[:n]...)
		for {
			p, used := decode(buf)
			if used == 0 {
				break
			}
			c.in <- p
			buf = buf[used:]
		}
		if err != nil {
			return
		}
	}
}

func decode(b []byte) (p packets.Packet, used int) {
	if len(b) < 2 {
		return p, 0
	}
	n, size, err := packets.DecodeLength(bytes.NewReader(b[1:]))
	if err != nil || len(b) < 1+size+n {
		return p, 0
	}
	_ = p.FixedHeader.Decode(b[0])
	p.FixedHeader.Remaining = n
	p.ProtocolVersion = 4
	body := b[1+size : 1+size+n]
	switch p.FixedHeader.Type {
	case packets.Publish:
		err = p.PublishDecode(append([]byte(nil), body...))
	case packets.Puback:
		err = p.PubackDecode(body)
	case packets.Pubrec:
		err = p.PubrecDecode(body)
	case packets.Pubcomp:
		err = p.PubcompDecode(body)
	}
	if err != nil {
		p.FixedHeader.Type = packets.Reserved
	}
	return p, 1 + size + n
}

func (c *stepper) send(p packets.Packet) {
	c.t.Helper()
	p.ProtocolVersion = 4
	var b bytes.Buffer
	var err error
	switch p.FixedHeader.Type {
	case packets.Connect:
		err = p.ConnectEncode(&b)
	case packets.Publish:
		err = p.PublishEncode(&b)
	case packets.Pubrel:
		err = p.PubrelEncode(&b)
	case packets.Subscribe:
		err = p.SubscribeEncode(&b)
	case packets.Pingreq:
		err = p.PingreqEncode(&b)
	case packets.Disconnect:
		err = p.DisconnectEncode(&b)
	}
	if err == nil {
		_, err = c.conn.Write(b.Bytes())
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// take waits for a packet of a type; messages for us may come in between.
func (c *stepper) take(want byte) packets.Packet {
	c.t.Helper()
	for {
		select {
		case p, open := <-c.in:
			if !open {
				c.t.Fatalf("connection closed while waiting for %s", packets.PacketNames[want])
			}
			if p.FixedHeader.Type == packets.Publish {
				key := digest(string(p.Payload))
				if !c.deliver[key] {
					c.t.Fatalf("unexpected or repeated delivery of %d bytes on %s", len(p.Payload), p.TopicName)
				}
				delete(c.deliver, key)
				if want == packets.Publish {
					return p
				}
				continue
			}
			if p.FixedHeader.Type != want {
				c.t.Fatalf("got %s, want %s", packets.PacketNames[p.FixedHeader.Type], packets.PacketNames[want])
			}
			return p
		case <-time.After(20 * time.Second):
			c.t.Fatalf("stalled: no %s", packets.PacketNames[want])
		}
	}
}

// publish sends one routed message and sees its handshake through.
func (c *stepper) publish(i int, qos byte, size int) {
	payload := fmt.Sprintf("%d:", i) + strings.Repeat(string(rune('a'+i%26)), size)
	c.expect[digest(payload)] = true
	p := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos}, TopicName: "sensors/mixed/temp", Payload: []byte(payload)}
	if qos > 0 {
		c.id = c.id%60000 + 1
		p.PacketID = c.id
	}
	c.send(p)
	switch qos {
	case 1:
		if a := c.take(packets.Puback); a.PacketID != c.id {
			c.t.Fatalf("PUBACK for %d, want %d", a.PacketID, c.id)
		}
	case 2:
		if a := c.take(packets.Pubrec); a.PacketID != c.id {
			c.t.Fatalf("PUBREC for %d, want %d", a.PacketID, c.id)
		}
		c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrel, Qos: 1}, PacketID: c.id})
		c.take(packets.Pubcomp)
	}
}

// step does one random thing.
func (c *stepper) step(i int) {
	switch x := c.rng.IntN(100); {
	case x < 60:
		c.publish(i, 1, c.rng.IntN(200))
	case x < 72:
		c.publish(i, 0, c.rng.IntN(200))
		if c.rng.IntN(2) == 0 {
			c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
			c.take(packets.Pingresp)
		}
	case x < 80:
		c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
		c.take(packets.Pingresp)
	case x < 85:
		c.id = c.id%60000 + 1
		c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: c.id,
			Filters: packets.Subscriptions{{Filter: "echo/" + fmt.Sprint(c.rng.IntN(3))}}})
		c.take(packets.Suback)
	case x < 90:
		c.publish(i, 2, c.rng.IntN(300))
	case x < 91:
		c.publish(i, 1, 100<<10)
	default:
		c.echo(i)
	}
}

// echo publishes to a topic of our own; it comes back if subscribed to.
func (c *stepper) echo(i int) {
	c.id = c.id%60000 + 1
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: c.id,
		Filters: packets.Subscriptions{{Filter: "echo/3"}}})
	c.take(packets.Suback)
	payload := fmt.Sprintf("echo %d", i)
	c.deliver[digest(payload)] = true
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: "echo/3", Payload: []byte(payload)})
	c.take(packets.Publish)
}

// capture starts tcpdump on an interface; the function that it returns ends it
// and names the file.
func capture(t *testing.T, l *lab.Lab, r lab.Role, ifname string) func() string {
	t.Helper()
	file, stop := startCapture(t, l, r, ifname)
	return func() string {
		stop()
		return file
	}
}

// startCapture is capture; the file can be read before it ends.
func startCapture(t *testing.T, l *lab.Lab, r lab.Role, ifname string, flags ...string) (file string, stop func()) {
	t.Helper()
	file = filepath.Join(t.TempDir(), string(r)+".pcap")
	cmd := exec.Command("tcpdump", append(flags, "-i", ifname, "-B", "65536", "-s", "128", "-U", "-w", file, "tcp or vlan")...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Start(r, cmd); err != nil {
		t.Fatal(err)
	}
	sc := bufio.NewScanner(stderr)
	for sc.Scan() && !strings.Contains(sc.Text(), "listening on") {
	}
	if sc.Err() != nil || !strings.Contains(sc.Text(), "listening on") {
		t.Fatalf("tcpdump does not capture: %q", sc.Text())
	}
	go func() { _, _ = io.Copy(io.Discard, stderr) }()
	return file, func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}
}

// checkCapture fails if tshark's experts find fault with the TCP in a capture.
func checkCapture(t *testing.T, file string) {
	t.Helper()
	filter := "tcp.analysis.retransmission or tcp.analysis.fast_retransmission or tcp.analysis.spurious_retransmission or " +
		"tcp.analysis.out_of_order or tcp.analysis.ack_lost_segment or tcp.analysis.lost_segment"
	out, err := exec.Command("tshark", "-n", "-r", file, "-Y", filter).CombinedOutput()
	if err != nil {
		t.Fatalf("tshark: %v: %s", err, out)
	}
	var faults []string
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "TCP") && !strings.HasPrefix(line, "Running as") {
			faults = append(faults, strings.TrimSpace(line))
		}
	}
	if len(faults) > 0 {
		t.Errorf("%s: %d faults, first:\n%s", filepath.Base(file), len(faults), strings.Join(faults[:min(10, len(faults))], "\n"))
	}
}
