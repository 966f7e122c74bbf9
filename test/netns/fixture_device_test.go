package netns

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"eproxy/test/lib/lab"
)

// stallLimit is how long a device waits for any progress before it calls its
// connection stalled: longer than TCP takes to recover from what tests do.
const stallLimit = 60 * time.Second

// sealed is a payload that says whose it is and proves that it is whole.
func sealed(device, function string, n, size int) string {
	head := fmt.Sprintf("%s %s %d %s", device, function, n, strings.Repeat("x", size))
	h := sha256.Sum256([]byte(head))
	return hex.EncodeToString(h[:16]) + " " + head
}

// unseal checks a payload and says whose it is.
func unseal(payload string) (device, function string, n int, err error) {
	hash, head, _ := strings.Cut(payload, " ")
	h := sha256.Sum256([]byte(head))
	f := strings.Split(head, " ")
	if hash != hex.EncodeToString(h[:16]) || len(f) != 4 {
		return "", "", 0, fmt.Errorf("payload of %d bytes is not what any device sent: %.60q", len(payload), payload)
	}
	n, err = strconv.Atoi(f[2])
	return f[0], f[1], n, err
}

// device publishes messages whatever happens to its connection: what is not
// acknowledged is published again on the next one (MQTT-4.4.0-1).
type device struct {
	id     string
	lab    *lab.Lab
	ipv6   bool
	window int // messages in flight
	total  int
	batch  bool // several messages in one write
	dial   func(context.Context) (net.Conn, error)

	rng     *rand.Rand
	packets []packetOf // by message

	mu       sync.Mutex
	acked    []bool
	sent     []int // transmissions, by message
	inflight map[uint16]int
	redials  int
}

type packetOf struct {
	function string
	qos      byte
	payload  string
}

func newDevice(l *lab.Lab, id string, seed uint64, total, window int) *device {
	h := sha256.Sum256([]byte(id))
	d := &device{id: id, lab: l, window: window, total: total, acked: make([]bool, total), sent: make([]int, total),
		rng: rand.New(rand.NewPCG(seed, binary.BigEndian.Uint64(h[:])))}
	d.dial = func(ctx context.Context) (net.Conn, error) {
		return l.Dial(ctx, lab.Dev, net.JoinHostPort(lab.NodeAddr(d.ipv6).String(), "1883"))
	}
	for n := range total {
		p := packetOf{function: []string{"temp", "hum"}[d.rng.IntN(2)], qos: 1}
		if d.rng.IntN(5) == 0 {
			p.qos = 0
		}
		size := d.rng.IntN(200)
		if d.rng.IntN(25) == 0 {
			size = 1300 + d.rng.IntN(4000)
		}
		p.payload = sealed(id, p.function, n, size)
		d.packets = append(d.packets, p)
	}
	return d
}

func (d *device) topic(n int) string { return "sensors/" + d.id + "/" + d.packets[n].function }

var errStalled = errors.New("stalled")

// run publishes everything. It fails if a connection makes no progress for too
// long, or brings anything but responses to what was sent.
func (d *device) run(ctx context.Context) error {
	next := 0
	for {
		err := d.session(ctx, &next)
		if err == nil || ctx.Err() != nil || errors.Is(err, errStalled) || errors.Is(err, errForeign) {
			if err != nil {
				return fmt.Errorf("device %s: %w", d.id, err)
			}
			return ctx.Err()
		}
		d.mu.Lock()
		d.redials++
		d.mu.Unlock()
		select { // nobody may be listening
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

var errForeign = errors.New("bytes that no message of this device asks for")

func (d *device) session(ctx context.Context, next *int) error {
	dctx, cancel := context.WithTimeout(ctx, stallLimit)
	defer cancel()
	c, err := d.dial(dctx)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	_ = c.SetDeadline(time.Now().Add(stallLimit))
	if _, err := c.Write(append([]byte{0x10, byte(12 + len(d.id)), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, byte(len(d.id))}, d.id...)); err != nil {
		return d.stall(c, err)
	}
	ack := make([]byte, 4)
	if _, err := io.ReadFull(c, ack); err != nil {
		return d.stall(c, err)
	}
	if string(ack) != "\x20\x02\x00\x00" {
		return fmt.Errorf("%w: CONNACK % x", errForeign, ack)
	}

	d.mu.Lock()
	d.inflight = make(map[uint16]int)
	var again []int
	for n := range *next {
		if !d.acked[n] && d.packets[n].qos == 1 {
			again = append(again, n)
		}
	}
	d.mu.Unlock()
	free := make(chan struct{}, d.total+1)
	for range d.window {
		free <- struct{}{}
	}
	reader := make(chan error, 1)
	go func() { reader <- d.read(c, free) }()
	err = d.write(ctx, c, again, next, free, reader)
	if err == nil { // all written: wait for the rest, then say goodbye
		for d.open() > 0 && err == nil {
			select {
			case <-free:
			case err = <-reader:
			}
		}
	}
	if err != nil {
		return d.stall(c, err)
	}
	_, _ = c.Write([]byte{0xe0, 0})
	_ = c.(*net.TCPConn).CloseWrite()
	if err := <-reader; !errors.Is(err, io.EOF) {
		return d.stall(c, err)
	}
	return nil
}

// stall tells a connection without progress from one that ended, and says what
// both kernels think of it.
func (d *device) stall(c net.Conn, err error) error {
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() {
		return err
	}
	port := c.LocalAddr().(*net.TCPAddr).Port
	filter := fmt.Sprintf("( sport = :%d or dport = :%d )", port, port)
	here, _ := d.lab.Run(context.Background(), lab.Dev, "ss", "-tnoim", filter)
	there, _ := d.lab.Run(context.Background(), lab.Node, "ss", "-tnoim", filter)
	return fmt.Errorf("%w with %d in flight: %w\n%s%s%s", errStalled, d.open(), err, here, there, ledgers(d.lab, port))
}

func (d *device) open() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.inflight)
}

// write sends messages as the window allows: first again, then new ones.
func (d *device) write(ctx context.Context, c net.Conn, again []int, next *int, free chan struct{}, reader chan error) error {
	var buf []byte
	flush := func() error {
		if len(buf) == 0 {
			return nil
		}
		_ = c.SetWriteDeadline(time.Now().Add(stallLimit))
		_, err := c.Write(buf)
		buf = buf[:0]
		return err
	}
	for len(again) > 0 || *next < d.total {
		var n int
		if len(again) > 0 {
			n, again = again[0], again[1:]
		} else {
			n = *next
		}
		if d.packets[n].qos == 1 {
			select {
			case <-free:
			default:
				if err := flush(); err != nil {
					return err
				}
				select {
				case <-free:
				case err := <-reader:
					return err
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		if n == *next {
			*next++
		}
		p := d.packets[n]
		id := uint16(n%60000 + 1)
		d.mu.Lock()
		d.sent[n]++
		if p.qos == 1 {
			d.inflight[id] = n
		}
		first := d.sent[n] == 1
		d.mu.Unlock()
		b := publishPacket(d.topic(n), p.qos, id, p.payload)
		if !first {
			b[0] |= 8 // DUP
		}
		buf = append(buf, b...)
		if !d.batch || len(buf) > 8000 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// read takes PUBACKs until the connection ends.
func (d *device) read(c net.Conn, free chan struct{}) error {
	var b [4]byte
	for {
		_ = c.SetReadDeadline(time.Now().Add(stallLimit))
		if _, err := io.ReadFull(c, b[:]); err != nil {
			return err
		}
		id := binary.BigEndian.Uint16(b[2:])
		d.mu.Lock()
		n, ok := d.inflight[id]
		if ok {
			delete(d.inflight, id)
			d.acked[n] = true
		}
		d.mu.Unlock()
		if b[0] != 0x40 || b[1] != 2 || !ok {
			return fmt.Errorf("%w: % x", errForeign, b)
		}
		free <- struct{}{}
	}
}

// ledger is what functions got, checked against what devices sent.
type ledger struct {
	count map[string][]int // deliveries, by device and message
}

// check looks at what the functions got from these devices: everything
// acknowledged is there, QoS 0 at most once a transmission, nothing false.
func check(got []request, devices []*device) (duplicates int, err error) {
	l := ledger{count: make(map[string][]int)}
	byID := make(map[string]*device)
	for _, d := range devices {
		l.count[d.id] = make([]int, d.total)
		byID[d.id] = d
	}
	for _, q := range got {
		id, function, n, err := unseal(q.body)
		if err != nil {
			return 0, err
		}
		d := byID[id]
		if d == nil {
			continue // another round's
		}
		if n >= d.total || d.packets[n].payload != q.body || q.headers["host"] != function+".local" ||
			q.headers["ce-subject"] != d.topic(n) || q.headers["ce-source"] != "eproxy/"+id {
			return 0, fmt.Errorf("message %d of %s came to the wrong function or with wrong headers: %v", n, id, q.headers)
		}
		l.count[id][n]++
	}
	for _, d := range devices {
		d.mu.Lock()
		for n, c := range l.count[d.id] {
			switch p := d.packets[n]; {
			case p.qos == 1 && d.acked[n] && c == 0:
				err = errors.Join(err, fmt.Errorf("message %d of %s was acknowledged and never delivered", n, d.id))
			case p.qos == 0 && c > d.sent[n]:
				err = errors.Join(err, fmt.Errorf("QoS 0 message %d of %s was sent %d times and delivered %d times", n, d.id, d.sent[n], c))
			case c > 1:
				duplicates += c - 1
			}
		}
		d.mu.Unlock()
	}
	return duplicates, err
}
