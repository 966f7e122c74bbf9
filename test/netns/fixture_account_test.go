package netns

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"eproxy/internal/mqtt/samples"
	"eproxy/test/lib/lab"
)

// The accounts: admin and dev may publish everywhere, eve only below her own
// identifier.
const (
	adminAccount = `  - {username: admin, password_hash: "%s"}` + "\n"
	devAccount   = `  - {username: dev, password_hash: "%s"}` + "\n"
	eveAccount   = `  - {username: eve, password_hash: "%s", publish: ["sensors/%%c/#", "plain/%%c"], subscribe: ["cmd/%%c/#", "answers/%%c"]}` + "\n"
)

// someRetries is a line of routeConfig.
const someRetries = "retry: {attempts: 5, backoff: 20ms}"

// accountConfig is a configuration with these accounts, whose passwords are their
// names.
func accountConfig(t *testing.T) string {
	t.Helper()
	// at a fixed depth, so that a deeper one is refused late (refusedLate)
	routes := strings.Replace(routeConfig, someRetries, someRetries+"\n    pipeline: 1", 1)
	return podConfig(routes, false) + "auth:\n  allow_anonymous: false\n  users:\n" +
		fmt.Sprintf(adminAccount, hashOf(t, "admin")) + fmt.Sprintf(devAccount, hashOf(t, "dev")) + fmt.Sprintf(eveAccount, hashOf(t, "eve"))
}

func hashOf(t *testing.T, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

// account is a client that logs in.
type account struct {
	version   byte
	id, user  string
	password  string
	keepAlive byte   // seconds
	will      string // topic; empty: none
}

// bytes are the CONNECT packet.
func (a account) bytes() []byte {
	flags := byte(0xc2)
	fields := []string{samples.String(a.id)}
	if a.version == 5 {
		fields = []string{samples.Properties(), samples.String(a.id)}
	}
	if a.will != "" {
		flags |= 4 | 1<<3 // QoS 1
		if a.version == 5 {
			fields = append(fields, samples.Properties())
		}
		fields = append(fields, samples.String(a.will), samples.String("will of "+a.id+" "+a.user))
	}
	b := []byte(samples.Connect(a.version, flags, append(fields, samples.String(a.user), samples.String(a.password))...))
	b[11] = a.keepAlive
	return b
}

// accountConn is a client's connection that reads packet by packet.
type accountConn struct {
	*rawConn
	version byte
}

// logIn connects and returns CONNACK's reason code.
func logIn(t *testing.T, l *lab.Lab, a account) (*accountConn, byte) {
	t.Helper()
	if a.password == "" {
		a.password = a.user
	}
	c := &accountConn{rawDial(t, l), a.version}
	c.write(a.bytes())
	p := c.packet()
	if p[0] != 0x20 {
		t.Fatalf("got % x, want CONNACK", p)
	}
	return c, p[3]
}

// mustLogIn is logIn for those who may.
func mustLogIn(t *testing.T, l *lab.Lab, a account) *accountConn {
	t.Helper()
	c, code := logIn(t, l, a)
	if code != 0 {
		t.Fatalf("%s refused with %#x", a.id, code)
	}
	return c
}

// next is the next packet, or an error at the end.
func (c *accountConn) next() ([]byte, error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(c, head); err != nil {
		return nil, err
	}
	if head[1] > 127 {
		return nil, fmt.Errorf("a packet of more than 127 bytes: % x", head)
	}
	p := append(head, make([]byte, head[1])...)
	_, err := io.ReadFull(c, p[2:])
	return p, err
}

func (c *accountConn) packet() []byte {
	c.t.Helper()
	p, err := c.next()
	if err != nil {
		c.t.Fatalf("no packet: %v", err)
	}
	return p
}

// message is a PUBLISH packet of QoS 1; an alias of MQTT 5 goes with it if it is
// not 0.
func (c *accountConn) message(topic string, id uint16, payload string, properties ...string) []byte {
	fields := []string{samples.String(topic), string([]byte{byte(id >> 8), byte(id)})}
	if c.version == 5 {
		fields = append(fields, samples.Properties(properties...))
	}
	return []byte(samples.Packet(0x32, append(fields, payload)...))
}

// answer is what a PUBLISH of QoS 1 is answered with: PUBACK's reason code, or end
// if the connection ends.
func (c *accountConn) answer(topic string, id uint16, payload string, properties ...string) (code byte, end bool) {
	c.t.Helper()
	c.write(c.message(topic, id, payload, properties...))
	for {
		p, err := c.next()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.t.Fatalf("PUBLISH %d to %s is not answered", id, topic)
		}
		if err != nil {
			return 0, true
		}
		switch {
		case p[0] == 0x40 && len(p) > 4:
			return p[4], false
		case p[0] == 0x40:
			return 0, false
		case p[0] == 0xe0:
			return p[2], true
		}
	}
}

// ending waits for the connection's end and returns DISCONNECT's reason code, 0
// if there was none.
func (c *accountConn) ending() (code byte) {
	c.t.Helper()
	for {
		p, err := c.next()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.t.Fatal("the connection does not end")
		}
		if err != nil {
			return code
		}
		if p[0] == 0xe0 && len(p) > 2 {
			code = p[2]
		}
	}
}
