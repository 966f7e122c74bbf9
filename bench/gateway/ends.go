package gateway

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"eproxy/internal/mqtt"
)

// Bounds of what waits.
const (
	podWaiting    = 4096     // requests of one connection to a pod; its devices are not read beyond
	deviceUnread  = 64 << 10 // bytes that a device does not read; it is closed
	largestPacket = 1 << 20
)

// device is an MQTT connection; all its messages go over one connection to a pod, in order.
type device struct {
	socket
	serial uint64
	sender *sender // nil before CONNECT
	pod    *pod
}

func (l *Loop) accept() {
	for {
		fd, _, err := unix.Accept4(l.listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err != nil {
			return
		}
		d := &device{socket: socket{fd: fd}, serial: l.devices, pod: l.pods[l.devices%uint64(len(l.pods))]}
		l.devices++
		if err := l.add(d); err != nil {
			_ = unix.Close(fd)
		}
	}
}

func (d *device) readable(l *Loop) error {
	b := l.receive(&d.socket)
	at := 0
	for at < len(b) {
		n, err := wholePacket(b[at:])
		if err == nil && n > 0 {
			err = d.packet(l, b[at:at+n])
		}
		if err != nil || len(b)-at > largestPacket && n == 0 {
			l.close(&d.socket)
			return nil
		}
		if n == 0 {
			break
		}
		at += n
	}
	if !d.closed {
		d.keep(b[at:])
		d.pod.hold(l, d)
	}
	return nil
}

func (d *device) packet(l *Loop, packet []byte) error {
	if d.sender == nil {
		if packet[0] != 0x10 {
			return errUnsupported
		}
		id, err := clientID(packet)
		if err != nil {
			return err
		}
		d.sender = newSender(l.fn, id, d.serial)
		d.reply(l, connack)
		return nil
	}
	switch packet[0] >> 4 {
	case 3:
		return d.publish(l, packet)
	case 12:
		d.reply(l, pingresp)
		return nil
	}
	return errUnsupported // DISCONNECT among them
}

func (d *device) reply(l *Loop, packet []byte) {
	d.out = append(d.out, packet...)
	l.written(&d.socket)
}

func (d *device) publish(l *Loop, packet []byte) error {
	var p mqtt.Publish
	if err := mqtt.ReadPublish(packet, 4, &p); err != nil {
		return err
	}
	if p.QoS > 1 || p.Retain {
		return errUnsupported
	}
	d.pod.out = d.sender.appendRequest(d.pod.out, packet, &p)
	d.pod.waiting.push(message[*device]{d, p.PacketID})
	l.written(&d.pod.socket)
	return nil
}

// pod is a connection to a pod.
type pod struct {
	socket
	waiting queue[message[*device]] // for responses, which come in order
	held    []*device               // that are not read
}

// hold stops reading a device whose pod is too far behind.
func (p *pod) hold(l *Loop, d *device) {
	if p.waiting.len() >= podWaiting && d.events&unix.EPOLLIN != 0 {
		l.want(&d.socket, d.events&^unix.EPOLLIN)
		p.held = append(p.held, d)
	}
}

var errPodEnded = errors.New("a pod ended its connection")

func (p *pod) readable(l *Loop) error {
	b := l.receive(&p.socket)
	if p.closed {
		return errPodEnded
	}
	at := 0
	for p.waiting.len() > 0 {
		n, err := wholeResponse(b[at:])
		if err != nil {
			return fmt.Errorf("response of a pod: %w", err)
		}
		if n == 0 {
			break
		}
		at += n
		p.answered(l, p.waiting.pop())
	}
	p.keep(b[at:])
	if p.waiting.len() < podWaiting/2 {
		for _, d := range p.held {
			l.want(&d.socket, d.events|unix.EPOLLIN)
		}
		p.held = p.held[:0]
	}
	return nil
}

func (p *pod) answered(l *Loop, m message[*device]) {
	d := m.device
	if m.id == 0 || d.closed {
		return
	}
	d.out = appendPuback(d.out, m.id)
	if l.written(&d.socket); len(d.out) > deviceUnread {
		l.close(&d.socket)
	}
}

// queue is a FIFO that keeps its memory.
type queue[T any] struct {
	items []T
	first int
}

func (q *queue[T]) len() int { return len(q.items) - q.first }

func (q *queue[T]) push(v T) { q.items = append(q.items, v) }

func (q *queue[T]) pop() T {
	v := q.items[q.first]
	if q.first++; q.first == len(q.items) {
		q.items, q.first = q.items[:0], 0
	} else if q.first >= 4096 {
		q.items, q.first = q.items[:copy(q.items, q.items[q.first:])], 0
	}
	return v
}
