package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// HTTP makes clients that call a function directly over keep-alive
// connections: the floor that the MQTT path is compared with. The request has
// the headers that eproxy would send.
type HTTP struct {
	Dial    func(ctx context.Context, i int) (net.Conn, error)
	Topic   func(device int) string
	Payload int  // bytes
	Stamp   bool // payloads begin with the time of sending
}

// Open connects client i; a Dialer.
func (h HTTP) Open(ctx context.Context, i int) (Conn, error) {
	c, err := h.Dial(ctx, i)
	if err != nil {
		return nil, err
	}
	req := fmt.Sprintf("POST /ingest HTTP/1.1\r\nHost: temp.local\r\nce-specversion: 1.0\r\nce-type: mqtt.publish\r\nce-source: eproxy/dev-%d\r\nce-subject: %s\r\nX-Mqtt-Qos: 1\r\nce-id: 00000000000000000000\r\nContent-Length: %d\r\n\r\n", i, h.Topic(i), h.Payload)
	b := []byte(req)
	id := bytes.Index(b, []byte("ce-id: ")) + len("ce-id: ")
	head := len(b)
	for i := range h.Payload {
		b = append(b, 'a'+byte(i%26))
	}
	conn := &httpConn{Conn: c, request: b, id: id, buf: make([]byte, 65536)}
	if h.Stamp {
		conn.stamped = b[head:]
	}
	return conn, nil
}

type httpConn struct {
	net.Conn
	request []byte
	id      int    // offset of ce-id's value
	stamped []byte // the payload, if it has the time of sending
	buf     []byte
	have    int
	next    int
	ids     []int
}

// Send sends request n.
func (c *httpConn) Send(n int) error {
	for i := range 8 {
		c.request[c.id+19-i] = '0' + byte(n%10)
		n /= 10
	}
	if c.stamped != nil {
		putStamp(c.stamped)
	}
	_, err := c.Write(c.request)
	return err
}

var (
	headEnd      = []byte("\r\n\r\n")
	lengthHeader = []byte("\r\nContent-Length: ")
	errResponse  = errors.New("unexpected response")
)

// Receive reads responses; they come in order.
func (c *httpConn) Receive() ([]int, error) {
	n, err := c.Read(c.buf[c.have:])
	c.have += n
	c.ids = c.ids[:0]
	at := 0
	for {
		b := c.buf[at:c.have]
		end := bytes.Index(b, headEnd)
		if end < 0 {
			break
		}
		l := bytes.Index(b[:end+2], lengthHeader)
		if l < 0 || !bytes.HasPrefix(b, []byte("HTTP/1.1 200")) {
			return c.ids, fmt.Errorf("%w: %.60q", errResponse, b)
		}
		body := 0
		for _, d := range b[l+len(lengthHeader) : end+2] {
			if d < '0' || d > '9' {
				break
			}
			body = body*10 + int(d-'0')
		}
		if len(b) < end+4+body {
			break
		}
		at += end + 4 + body
		c.ids = append(c.ids, c.next)
		c.next++
	}
	c.have = copy(c.buf, c.buf[at:c.have])
	return c.ids, err
}

// Interrupt ends a waiting Receive.
func (c *httpConn) Interrupt() { _ = c.SetReadDeadline(time.Unix(1, 0)) }
