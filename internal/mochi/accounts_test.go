package mochi

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/golang-jwt/jwt/v5"

	"eproxy/internal/config"
	"eproxy/internal/mqtt/samples"
)

// replaceFile writes a file anew, as most programs do.
func replaceFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// by is CONNECT of a client with a user name and password.
func by(version byte, id, user, password string) []byte {
	head := samples.String(id)
	if version == 5 {
		head = samples.Properties() + head
	}
	return []byte(samples.Connect(version, 0xc2, head, samples.String(user), samples.String(password)))
}

// TestPasswordFileIsFollowed: who is removed from the file, or gets another password, is disconnected on both paths, as
// its version has it; others go on. A file that cannot be used changes nothing, and is said to be so.
func TestPasswordFileIsFollowed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passwd")
	line := func(name, password string) string { return name + ":" + hashOf(password) + "\n" }
	stays, goes, changes := line("stays", "p"), line("goes", "p"), line("changes", "p")
	replaceFile(t, file, stays+goes+changes)
	s := newStage(t, say("ok"), nil, config.Auth{PasswordFile: file})
	open := func(version byte, user string) io.ReadWriter {
		t.Helper()
		c := s.dial()
		write(t, c, by(version, user+string('0'+rune(version)), user, "p")...)
		if version == 5 {
			packet(t, c)
		} else {
			want(t, c, 0x20, 2, 0, 0)
		}
		return c
	}
	one, five, other := open(4, "goes"), open(5, "goes"), open(5, "changes")
	client := open(4, "stays")

	replaceFile(t, file, stays+"goes\n")
	s.waitFor(func() bool { return strings.Contains(s.log.String(), "passwd:2: must be name:hash") }, "nothing is said of a bad file")
	if n := len(s.server.Clients()); n != 4 {
		t.Errorf("%d of 4 clients are connected after a file that cannot be used", n)
	}

	replaceFile(t, file, stays+line("changes", "q"))
	if b, err := io.ReadAll(one); len(b) > 0 || err != nil {
		t.Errorf("MQTT 3.1.1 got % x (%v), want the connection closed", b, err)
	}
	for _, c := range []io.Reader{five, other} {
		if b, err := io.ReadAll(c); len(b) < 3 || b[0] != 0xe0 || b[2] != 0x87 || err != nil {
			t.Errorf("MQTT 5 got % x (%v), want DISCONNECT with 0x87", b, err)
		}
	}
	_, _ = client.Write([]byte{0x32, 9, 0, 4, 'i', 'n', '/', 'x', 0, 1, 'A'})
	var ack [4]byte
	if _, err := io.ReadFull(client, ack[:]); err != nil || ack != [4]byte{0x40, 2, 0, 1} {
		t.Errorf("who has the same account as before got % x (%v), want PUBACK", ack, err)
	}
	again := s.dial()
	write(t, again, by(4, "again", "goes", "p")...)
	want(t, again, 0x20, 2, 0, 4)
}

// TestTokenIsTheAccount: a token says who the client is and what it may do, and when it has expired the client is
// disconnected.
func TestTokenIsTheAccount(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	secret := []byte("0123456789abcdef0123456789abcdef")
	replaceFile(t, file, string(secret))
	s := newStage(t, say("ok"), nil, config.Auth{JWT: &config.JWT{SecretFile: file, Username: "sub", Publish: "publish", Subscribe: "subscribe"}})
	token := func(left time.Duration) string {
		raw, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
			"sub": "dev", "exp": time.Now().Add(left).Unix(), "publish": []string{"in/%u/#"},
		}).SignedString(secret)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	c := paho.NewClient(paho.ClientConfig{Conn: s.dial()})
	if _, err := c.Connect(context.Background(), &paho.Connect{ClientID: "five", KeepAlive: 30, PasswordFlag: true, Password: []byte(token(time.Hour))}); err != nil {
		t.Fatal(err)
	}
	for topic, code := range map[string]byte{"in/dev/x": 0, "in/x": 0x87} {
		if r, err := c.Publish(context.Background(), &paho.Publish{Topic: topic, QoS: 1, Payload: []byte("m")}); r == nil || r.ReasonCode != code {
			t.Errorf("publish to %s: %+v, %v", topic, r, err)
		}
	}
	if got := s.server.Clients(); len(got) != 1 || got[0].Username != "dev" {
		t.Errorf("connected are %+v, want dev", got)
	}
	short := s.dial()
	write(t, short, by(5, "short", "whoever", token(2*time.Second))...)
	packet(t, short)
	if b, err := io.ReadAll(short); len(b) < 3 || b[0] != 0xe0 || b[2] != 0x87 || err != nil {
		t.Errorf("after its time got % x (%v), want DISCONNECT with 0x87", b, err)
	}
	late := s.dial()
	write(t, late, by(4, "late", "dev", token(-time.Second))...)
	want(t, late, 0x20, 2, 0, 4)
	if !strings.Contains(s.log.String(), "token is expired") {
		t.Error("operators do not hear why")
	}
	// Another secret: who was let in by the one before is not.
	replaceFile(t, file, "another"+string(secret))
	s.waitFor(func() bool { return len(s.server.Clients()) == 0 }, "still connected by a secret that was replaced")
}

// TestDeniedTopics: what is denied is neither published, nor as a will, nor received, though the filter of a subscription matches
// it, too.
func TestDeniedTopics(t *testing.T) {
	dev := user("dev", "dev", "in/#", "out/#")
	dev.DenyPublish, dev.DenySubscribe = []string{"in/secret/#"}, []string{"out/secret/#"}
	s := newStage(t, say("ok"), nil, config.Auth{Users: []config.User{dev, user("ops", "ops")}})
	c := s.dial()
	write(t, c, by(5, "c", "dev", "dev")...)
	packet(t, c)
	publish := func(topic string) []byte {
		return []byte(samples.Packet(0x32, samples.String(topic), "\x00\x01", samples.Properties(), "m"))
	}
	for topic, code := range map[string]byte{"in/x": 0, "in/secret": 0x87, "in/secret/x": 0x87} {
		write(t, c, publish(topic)...)
		ack := packet(t, c)
		if ack[0] != 0x40 || code != 0 && (len(ack) < 5 || ack[4] != code) || code == 0 && len(ack) > 4 && ack[4] != 0 {
			t.Errorf("publish to %s: % x, want %#x", topic, ack, code)
		}
	}
	write(t, c, []byte(samples.Packet(0x82, "\x00\x01", samples.Properties(), samples.String("#"), "\x01", samples.String("out/secret/x"), "\x01"))...)
	if ack := packet(t, c); string(ack[len(ack)-2:]) != "\x01\x87" {
		t.Errorf("SUBACK % x, want # granted and the denied topic not", ack)
	}
	ops := s.dial()
	write(t, ops, by(5, "o", "ops", "ops")...)
	packet(t, ops)
	for _, topic := range []string{"out/secret/x", "out/x"} {
		write(t, ops, publish(topic)...)
		packet(t, ops)
	}
	if got := string(packet(t, c)); got[0]>>4 != 3 || got[4:9] != "out/x" {
		t.Errorf("received % x, want what is not denied", got)
	}
	if got := s.server.Explain("c", "x").Refusals; len(got) != 3 || got[0].Topic != "out/secret/x" {
		t.Errorf("refused are %+v, want two messages and the last a subscription: what it did not receive it did not ask for", got)
	}
	if got := s.payloads(); got != "m" {
		t.Errorf("the function got %q, want one message", got)
	}
	will := s.dial()
	write(t, will, []byte(samples.Connect(4, 0xc6, samples.String("w"), samples.String("in/secret/x"), samples.String("bye"), samples.String("dev"), samples.String("dev")))...)
	want(t, will, 0x20, 2, 0, 5)
}
