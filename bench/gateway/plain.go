package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"eproxy/internal/config"
	"eproxy/internal/mqtt"
)

// Plain is the gateway that one would write in Go without further thought: net and bufio, a goroutine for each
// connection, devices' and pods'.
type Plain struct {
	listener net.Listener
	fn       *config.Function
	pods     []*plainPod
	devices  atomic.Uint64
}

// NewPlain listens at an address, and connects to each pod so many times.
func NewPlain(listen string, pods []string, connections int, url string) (*Plain, error) {
	fn, err := function(url)
	if err != nil {
		return nil, err
	}
	p := &Plain{fn: fn}
	if p.listener, err = net.Listen("tcp", listen); err != nil {
		return nil, err
	}
	for range connections {
		for _, address := range pods {
			c, err := net.Dial("tcp", address)
			if err != nil {
				return nil, err
			}
			p.pods = append(p.pods, &plainPod{Conn: c, w: bufio.NewWriterSize(c, 64<<10), waiting: make(chan message[*plainDevice], podWaiting)})
		}
	}
	return p, nil
}

// Run serves until ctx ends, or a pod fails.
func (p *Plain) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { _ = p.listener.Close() })
	defer stop()
	for _, pod := range p.pods {
		go func() { cancel(pod.read()) }()
		defer pod.Close()
	}
	for {
		c, err := p.listener.Accept()
		if err != nil {
			if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
				return cause
			}
			return nil
		}
		n := p.devices.Add(1)
		d := &plainDevice{Conn: c, w: bufio.NewWriter(c), pod: p.pods[n%uint64(len(p.pods))]}
		go func() {
			defer c.Close()
			defer context.AfterFunc(ctx, func() { _ = c.Close() })()
			_ = d.read(p.fn, n)
		}()
	}
}

// plainDevice is an MQTT connection.
type plainDevice struct {
	net.Conn
	pod     *plainPod
	sender  *sender
	request []byte // the last

	mu sync.Mutex // of w
	w  *bufio.Writer
}

// whole peeks at what a reader has, and blocks until that begins with something whole.
func whole(r *bufio.Reader, length func([]byte) (int, error)) ([]byte, error) {
	for want := 1; ; want = r.Buffered() + 1 {
		if _, err := r.Peek(want); err != nil {
			return nil, err
		}
		b, _ := r.Peek(r.Buffered())
		if n, err := length(b); err != nil || n > 0 {
			return b[:n], err
		}
	}
}

// another says whether a reader has something whole, so that nobody has to wait for it.
func another(r *bufio.Reader, length func([]byte) (int, error)) bool {
	b, _ := r.Peek(r.Buffered())
	n, err := length(b)
	return err == nil && n > 0
}

// read takes packets; those that have come together are sent together.
func (d *plainDevice) read(fn *config.Function, serial uint64) error {
	r := bufio.NewReaderSize(d.Conn, 64<<10)
	packet, err := whole(r, wholePacket)
	if err != nil {
		return err
	}
	id, err := clientID(packet)
	if err != nil {
		return err
	}
	_, _ = r.Discard(len(packet))
	d.sender = newSender(fn, id, serial)
	if err := d.reply(connack); err != nil {
		return err
	}
	for {
		packet, err := whole(r, wholePacket)
		if err != nil {
			return err
		}
		if err := d.packet(packet); err != nil {
			return err
		}
		if _, _ = r.Discard(len(packet)); !another(r, wholePacket) {
			if err := d.pod.flush(); err != nil {
				return err
			}
		}
	}
}

func (d *plainDevice) packet(packet []byte) error {
	switch packet[0] >> 4 {
	case 3:
		var p mqtt.Publish
		if err := mqtt.ReadPublish(packet, 4, &p); err != nil {
			return err
		}
		if p.QoS > 1 || p.Retain {
			return errUnsupported
		}
		d.request = d.sender.appendRequest(d.request[:0], packet, &p)
		return d.pod.send(d.request, message[*plainDevice]{d, p.PacketID})
	case 12:
		return d.reply(pingresp)
	}
	return errUnsupported
}

func (d *plainDevice) reply(packet []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, err := d.w.Write(packet)
	return errors.Join(err, d.w.Flush())
}

// plainPod is a connection to a pod.
type plainPod struct {
	net.Conn
	waiting chan message[*plainDevice] // for responses, which come in order

	mu sync.Mutex // of w, and the order of waiting
	w  *bufio.Writer
}

// send writes a request, which may wait for flush.
func (p *plainPod) send(request []byte, m message[*plainDevice]) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case p.waiting <- m:
	default: // what is waited for may not be written yet
		if err := p.w.Flush(); err != nil {
			return err
		}
		p.waiting <- m
	}
	_, err := p.w.Write(request)
	return err
}

func (p *plainPod) flush() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.w.Flush()
}

// read takes responses; those that have come together are told to their devices together.
func (p *plainPod) read() error {
	r := bufio.NewReaderSize(p.Conn, 64<<10)
	told := map[*plainDevice]struct{}{}
	for {
		response, err := whole(r, wholeResponse)
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
				return errPodEnded
			}
			return fmt.Errorf("response of a pod: %w", err)
		}
		_, _ = r.Discard(len(response))
		if m := <-p.waiting; m.id != 0 {
			m.device.mu.Lock()
			_, _ = m.device.w.Write(appendPuback(nil, m.id)) // its reader notices if it has ended
			m.device.mu.Unlock()
			told[m.device] = struct{}{}
		}
		if another(r, wholeResponse) {
			continue
		}
		for d := range told {
			d.mu.Lock()
			_ = d.w.Flush()
			d.mu.Unlock()
		}
		clear(told)
	}
}
