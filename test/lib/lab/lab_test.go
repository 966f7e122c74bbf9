package lab

import (
	"context"
	"io"
	"net"
	"testing"
)

// TestPodsAreReachable connects from the devices' host to both pods over both families.
func TestPodsAreReachable(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, r := range []Role{Pod0, Pod1} {
		for _, v6 := range []bool{false, true} {
			addr := net.JoinHostPort(PodAddr(r, v6).String(), "8080")
			ln, err := l.Listen(r, addr)
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				c, err := ln.Accept()
				if err == nil {
					_, _ = io.WriteString(c, string(r))
					c.Close()
				}
			}()
			c, err := l.Dial(context.Background(), Dev, addr)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(c)
			if err != nil || string(b) != string(r) {
				t.Errorf("%s: %q, %v", addr, b, err)
			}
			c.Close()
			ln.Close()
		}
	}
}
