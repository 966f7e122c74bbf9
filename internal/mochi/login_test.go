package mochi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/paho"
	"golang.org/x/crypto/bcrypt"

	"eproxy/internal/broker"
	"eproxy/internal/config"
)

// hashOfP is the hash of the password "p", in the form that htpasswd writes.
var hashOfP = hashOf("p")

func hashOf(password string) string {
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		panic(err)
	}
	return strings.Replace(string(h), "$2a$", "$2y$", 1)
}

// loginPacket is a CONNECT with user name and password.
func loginPacket(version byte, user, password string) []byte {
	body := []byte{0, 4, 'M', 'Q', 'T', 'T', version, 0xc2, 0, 0}
	if version == 5 {
		body = append(body, 0)
	}
	for _, x := range []string{"", user, password} {
		body = append(append(body, byte(len(x)>>8), byte(len(x))), x...)
	}
	return append(append([]byte{0x10}, binary.AppendUvarint(nil, uint64(len(body)))...), body...)
}

// TestLoginIsAnsweredByVersion: each client gets the answer that its version has for it.
func TestLoginIsAnsweredByVersion(t *testing.T) {
	long := strings.Repeat("t", 72)
	s := newStage(t, say("ok"), nil, config.Auth{Users: []config.User{{Username: "u", PasswordHash: hashOfP}, {Username: "long", PasswordHash: hashOf(long)}}})
	for _, x := range []struct {
		user, password string
		v3, v5         byte
	}{
		{"u", "p", 0, 0}, {"u", "p", 0, 0}, {"long", long, 0, 0},
		{"u", "q", 4, 0x86}, {"nobody", "p", 4, 0x86},
		{"long", long + "1", 4, 0x86}, {"u", "p\x00p", 4, 0x86},
	} {
		for version, code := range map[byte]byte{4: x.v3, 5: x.v5} {
			c := s.dial()
			write(t, c, loginPacket(version, x.user, x.password)...)
			if got := connackCode(t, c); got != code {
				t.Errorf("version %d: %q with %q: %#x, want %#x", version, x.user, x.password, got, code)
			}
		}
	}
}

// connackCode reads the beginning of CONNACK.
func connackCode(t *testing.T, c net.Conn) byte {
	t.Helper()
	var b [4]byte
	if _, err := io.ReadFull(c, b[:]); err != nil || b[0] != 0x20 {
		t.Fatalf("got % x (%v), want CONNACK", b, err)
	}
	return b[3]
}

// TestLoginsDoNotTakeTheProcessors: while one password is hashed, others wait, and
// more than can wait are refused as the versions of MQTT have it; who logged in
// before is let in at once, and messages go on.
func TestLoginsDoNotTakeTheProcessors(t *testing.T) {
	hold := make(chan struct{})
	compare := func(_, password []byte) error {
		if string(password) == "p" {
			return nil
		}
		<-hold
		return errors.New("wrong")
	}
	s := newStage(t, say("ok"), nil, config.Auth{Users: []config.User{{Username: "u", PasswordHash: hashOfP}}}, func(o *broker.Options) { o.Compare = compare })
	device := func() *paho.Client {
		c := paho.NewClient(paho.ClientConfig{Conn: s.dial()})
		if _, err := c.Connect(context.Background(), &paho.Connect{ClientID: "d", KeepAlive: 30, UsernameFlag: true, Username: "u", PasswordFlag: true, Password: []byte("p")}); err != nil {
			t.Fatal(err)
		}
		return c
	}
	device() // is known from now on

	const flood = 100
	codes := make(chan [2]byte, flood)
	for i := range flood {
		version := byte(4 + i%2)
		c := s.dial()
		write(t, c, loginPacket(version, "u", fmt.Sprintf("guess %d", i))...)
		go func() {
			var b [4]byte
			_, _ = io.ReadFull(c, b[:])
			codes <- [2]byte{version, b[3]}
		}()
	}
	// One is hashed, 64 wait.
	for range flood - 65 {
		if c := <-codes; c != [2]byte{4, 3} && c != [2]byte{5, 0x97} {
			t.Errorf("version %d: refused with %#x", c[0], c[1])
		}
	}
	c := device()
	if r, err := c.Publish(context.Background(), &paho.Publish{Topic: "in/x", QoS: 1, Payload: []byte("m")}); err != nil || r.ReasonCode != 0 {
		t.Errorf("publish: %+v, %v", r, err)
	}
	close(hold)
	for range 65 {
		if c := <-codes; c != [2]byte{4, 4} && c != [2]byte{5, 0x86} {
			t.Errorf("version %d: refused with %#x", c[0], c[1])
		}
	}
}
