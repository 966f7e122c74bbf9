package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// brokerClients are the clients of one measurement.
type brokerClients struct {
	load           brokerLoad
	pairs, payload int
	rate           float64 // messages per second of all, in an open loop
	duration       time.Duration
	dial           func(context.Context) (net.Conn, error)

	mu   sync.Mutex
	took []time.Duration // from PUBLISH to its subscriber, of a part of the messages
}

// connect opens a connection and begins a session.
func (x *brokerClients) connect(ctx context.Context, id string) (net.Conn, *bufio.Reader, error) {
	c, err := x.dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	if x.load.tls {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // what it measures is the server
	}
	if _, err := c.Write(append([]byte{0x10, byte(12 + len(id)), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, byte(len(id))}, id...)); err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	r := bufio.NewReader(c)
	if kind, _, err := readPacket(r); err != nil || kind != 0x20 {
		return nil, nil, errors.Join(fmt.Errorf("CONNACK: type %#x: %w", kind, err), c.Close())
	}
	return c, r, nil
}

// readPacket reads a packet of less than 16 KiB.
func readPacket(r *bufio.Reader) (first byte, body []byte, err error) {
	if first, err = r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, n)
	_, err = io.ReadFull(r, body)
	return first, body, err
}

// run runs the load; begin is called when all are connected. It returns how many messages or handshakes came to their end, and in
// what time.
func (x *brokerClients) run(ctx context.Context, begin func() error) (n int, took time.Duration, err error) {
	if x.load.handshake {
		return x.handshakes(ctx, begin)
	}
	pairs := make([]*pair, x.pairs)
	for i := range pairs {
		if pairs[i], err = x.pair(ctx, i); err != nil {
			return 0, 0, err
		}
		defer pairs[i].close()
	}
	if err := begin(); err != nil {
		return 0, 0, err
	}
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() {
		for _, p := range pairs {
			p.close()
		}
	})
	defer stop()
	for i, p := range pairs {
		g.Go(func() error { return p.publish(ctx, began, float64(i)/float64(x.pairs)) })
		g.Go(p.receive)
	}
	if err := g.Wait(); err != nil {
		return 0, 0, err
	}
	took = time.Since(began)
	for _, p := range pairs {
		n += int(p.received.Load())
	}
	return n, took, nil
}

// handshakes opens connections, two at a time, and closes them.
func (x *brokerClients) handshakes(ctx context.Context, begin func() error) (int, time.Duration, error) {
	var n atomic.Int64
	if err := begin(); err != nil {
		return 0, 0, err
	}
	began := time.Now()
	var g errgroup.Group
	for i := range 2 {
		g.Go(func() error {
			for time.Since(began) < x.duration {
				c, _, err := x.connect(ctx, fmt.Sprint("h", i))
				if err != nil {
					return err
				}
				if _, err := c.Write([]byte{0xe0, 0}); err != nil {
					return errors.Join(err, c.Close())
				}
				_ = c.Close()
				n.Add(1)
			}
			return nil
		})
	}
	err := g.Wait()
	return int(n.Load()), time.Since(began), err
}

// median is that of the messages' times, in microseconds.
func (x *brokerClients) median() float64 {
	if len(x.took) == 0 {
		return 0
	}
	slices.Sort(x.took)
	return float64(x.took[len(x.took)/2].Nanoseconds()) / 1e3
}

// pair is a publisher and its subscriber.
type pair struct {
	x              *brokerClients
	topic          string
	from, to       net.Conn
	acks, messages *bufio.Reader
	window         chan struct{} // a place for each message in flight
	sent           atomic.Int64  // all of them; negative: there will be more
	received       atomic.Int64
}

func (x *brokerClients) pair(ctx context.Context, i int) (p *pair, err error) {
	p = &pair{x: x, topic: fmt.Sprint("plain/", i), window: make(chan struct{}, max(x.load.inFlight, 1<<16))}
	if x.load.inFlight > 0 {
		p.window = make(chan struct{}, x.load.inFlight)
	}
	p.sent.Store(-1)
	if p.from, p.acks, err = x.connect(ctx, fmt.Sprint("p", i)); err != nil {
		return nil, err
	}
	if p.to, p.messages, err = x.connect(ctx, fmt.Sprint("s", i)); err != nil {
		return nil, errors.Join(err, p.from.Close())
	}
	request := append([]byte{0x82, byte(5 + len(p.topic)), 0, 1, 0, byte(len(p.topic))}, p.topic...)
	if _, err = p.to.Write(append(request, x.load.qos)); err == nil {
		_, _, err = readPacket(p.messages)
	}
	if err != nil {
		p.close()
	}
	return p, err
}

func (p *pair) close() {
	_ = p.from.Close()
	_ = p.to.Close()
}

// publish publishes for the measurement's time; of an open loop the first message comes after so much of the interval.
func (p *pair) publish(ctx context.Context, began time.Time, phase float64) error {
	if p.x.load.qos > 0 {
		go func() { _, _ = io.Copy(io.Discard, p.acks) }() // until the connection ends
	}
	interval := time.Duration(float64(p.x.pairs) / p.x.rate * float64(time.Second))
	for n := int64(0); ; n++ {
		if p.x.load.inFlight == 0 {
			time.Sleep(time.Until(began.Add(time.Duration((float64(n) + phase) * float64(interval)))))
		}
		if time.Since(began) > p.x.duration {
			p.sent.Store(n)
			return p.last()
		}
		select {
		case p.window <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		if _, err := p.from.Write(p.packet(uint16(n%0xffff+1), time.Since(began))); err != nil {
			return err
		}
	}
}

// last has the subscriber told that all messages are behind it.
func (p *pair) last() error {
	_, err := p.from.Write(p.packet(0xffff, -1))
	return err
}

// packet is a PUBLISH with the time that it was sent at; negative: it is the last one.
func (p *pair) packet(id uint16, at time.Duration) []byte {
	payload := make([]byte, max(p.x.payload, 16))
	binary.BigEndian.PutUint64(payload, uint64(at))
	binary.BigEndian.PutUint64(payload[8:], uint64(time.Now().UnixNano()))
	body := append([]byte{0, byte(len(p.topic))}, p.topic...)
	if p.x.load.qos > 0 {
		body = binary.BigEndian.AppendUint16(body, id)
	}
	body = append(body, payload...)
	return append(binary.AppendUvarint([]byte{0x30 | p.x.load.qos<<1}, uint64(len(body))), body...)
}

// receive receives until the last message has come.
func (p *pair) receive() error {
	for n := 0; ; n++ {
		_, body, err := readPacket(p.messages)
		if err != nil {
			return err
		}
		at := 2 + len(p.topic)
		if p.x.load.qos > 0 {
			if _, err := p.to.Write([]byte{0x40, 2, body[at], body[at+1]}); err != nil {
				return err
			}
			at += 2
		}
		if int64(binary.BigEndian.Uint64(body[at:])) < 0 {
			return p.complete()
		}
		p.received.Add(1)
		<-p.window
		if n%16 == 0 {
			p.x.note(time.Duration(time.Now().UnixNano() - int64(binary.BigEndian.Uint64(body[at+8:]))))
		}
	}
}

// complete checks that all messages came: both QoS are delivered while nobody is overrun.
func (p *pair) complete() error {
	if got, sent := p.received.Load(), p.sent.Load(); got != sent {
		return fmt.Errorf("%s: %d of %d messages came", p.topic, got, sent)
	}
	return nil
}

func (x *brokerClients) note(took time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.took = append(x.took, took)
}

// writeCertificate makes a certificate of an address that it signs itself, in two files of a directory.
func writeCertificate(dir string, of net.IP) (cert, key string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{of}, NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &private.PublicKey, private)
	if err != nil {
		return "", "", err
	}
	secret, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return "", "", err
	}
	cert, key = filepath.Join(dir, "server.pem"), filepath.Join(dir, "server-key.pem")
	return cert, key, errors.Join(os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}), 0o600))
}
