package netns

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"eproxy/test/lib/lab"
)

// TestEndlessResponseIsGivenUp: a pod whose response's head or interim responses never
// end cannot fill the daemon's memory: the attempt ends at a bound, and the log says
// at which.
func TestEndlessResponseIsGivenUp(t *testing.T) {
	for _, c := range []struct{ name, first, piece, want string }{
		{"head", "HTTP/1.1 200 OK\r\n", "X: y\r\n", "response head longer than 64 KiB"},
		{"interim responses", "", "HTTP/1.1 102 Processing\r\n\r\n", "more than 16 interim responses"},
	} {
		for _, mode := range []string{"tc", "fallback"} {
			t.Run(c.name+"/"+mode, func(t *testing.T) {
				l := newLab(t)
				ln, err := l.Listen(lab.Pod0, net.JoinHostPort(lab.PodAddr(lab.Pod0, false).String(), "8080"))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { ln.Close() })
				go func() {
					for {
						conn, err := ln.Accept()
						if err != nil {
							return
						}
						go endless(conn, c.first, c.piece)
					}
				}()
				config := strings.Replace(fmt.Sprintf(oneSlotConfig, lab.PodAddr(lab.Pod0, false).String()+":8080"), "attempts: 5", "attempts: 2", 1)
				s := start(t, l, mode, config)
				said := s.Expect(c.want)
				rawConnect(t, l, "dev").write(publishPacket("sensors/dev/temp", 1, 1, "x"))
				if err := said(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// endless answers a request without end, until the connection does.
func endless(c net.Conn, first, piece string) {
	defer c.Close()
	if _, err := c.Read(make([]byte, 4096)); err != nil {
		return
	}
	_, err := io.WriteString(c, first)
	for err == nil {
		_, err = io.WriteString(c, strings.Repeat(piece, 1000))
	}
}
