package netns

import (
	"bufio"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"eproxy/test/lib/lab"
)

// serveWire serves a function on both pods that records the bytes of each request as they come.
func (r *recorder) serveWire(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
		ln, err := l.Listen(pod, net.JoinHostPort(lab.PodAddr(pod, false).String(), "8080"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go r.readWire(c)
			}
		}()
	}
}

// readWire answers the requests of one connection until it ends.
func (r *recorder) readWire(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		head, err := readHead(in)
		if err != nil {
			return
		}
		body := make([]byte, contentLength(head))
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		r.add(request{head: head, body: string(body)})
		if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"); err != nil {
			return
		}
	}
}

// readHead reads a request's head, without the empty line.
func readHead(in *bufio.Reader) (string, error) {
	var head strings.Builder
	for {
		line, err := in.ReadString('\n')
		if err != nil || line == "\r\n" {
			return head.String(), err
		}
		head.WriteString(line)
	}
}

func contentLength(head string) int {
	for _, line := range strings.Split(head, "\r\n") {
		if value, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			n, _ := strconv.Atoi(value)
			return n
		}
	}
	return 0
}
