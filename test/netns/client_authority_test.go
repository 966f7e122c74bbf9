package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"eproxy/internal/mqtt/samples"
	"eproxy/test/lib/lab"
)

// authority is a system with two accounts, and what reached its function.
type authority struct {
	t    *testing.T
	lab  *lab.Lab
	sys  *system
	got  *recorder
	mode string
}

// eachPath runs a test on the kernel path, by XDP and by TC, and in the fallback.
func eachPath(t *testing.T, f func(a *authority)) {
	for _, mode := range []string{"xdp", "tc", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			f(&authority{t, l, start(t, l, mode, accountConfig(t)), r, mode})
		})
	}
}

// in is the same system for a test of its own.
func (a *authority) in(t *testing.T) *authority {
	b, sys := *a, *a.sys
	b.t, sys.t, b.sys = t, t, &sys
	b.got.forget()
	return &b
}

// settled are the bodies that have reached the function, after one that is sent now.
func (a *authority) settled() []string {
	a.t.Helper()
	id := fmt.Sprintf("last%d", serial.Add(1))
	c := mustLogIn(a.t, a.lab, account{version: 4, id: id, user: "admin"})
	if _, end := c.answer("sensors/"+id+"/temp", 1, id); end {
		a.t.Fatal("the last message is not acknowledged")
	}
	var bodies []string
	for _, q := range first(a.got.all()) {
		bodies = append(bodies, q.body)
	}
	return bodies
}

// expect says which of the bodies that begin with "msg" have reached the function.
func (a *authority) expect(want ...string) {
	a.t.Helper()
	var got []string
	for _, b := range a.settled() {
		if strings.HasPrefix(b, "msg") || strings.HasPrefix(b, "will") {
			got = append(got, b)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		a.t.Errorf("function got %q, want %q", got, want)
	}
}

// warm makes the kernel path take a topic of this client.
func (a *authority) warm(c *accountConn, topic string) {
	a.t.Helper()
	for i := range 3 {
		if code, end := c.answer(topic, uint16(100+i), "warm"); code != 0 || end {
			a.t.Fatalf("%s: reason code %#x, end %v", topic, code, end)
		}
	}
	if a.mode != "fallback" {
		if taken, _ := share(nil, a.sys.counts()); taken == 0 {
			a.t.Error("the kernel path took nothing: the test tests nothing")
		}
	}
}

// TestReloadTakesRights: what a reload forbids is refused from the moment on that
// it is reported; whose account is gone or has another password is disconnected.
func TestReloadTakesRights(t *testing.T) {
	eachPath(t, func(a *authority) {
		for name, c := range map[string]struct {
			user, old, fresh string
			code             byte // of PUBACK (MQTT 5)
			gone             bool // the client is disconnected
		}{
			"filters narrowed":   {"dev", `{username: dev,`, `{username: dev, publish: ["none/#"],`, 0x87, false},
			"filters replaced":   {"eve", `publish: ["sensors/%c/#", `, `publish: ["cmd/%c/#", `, 0x87, false},
			"account removed":    {"dev", `username: dev,`, `username: other,`, 0x87, true},
			"password changed":   {"eve", "", "", 0x87, true},
			"address is denied":  {"dev", "users:", `deny: {addresses: [10.0.0.0/8, "fd00::/8"]}` + "\n  users:", 0x87, true},
			"client is denied":   {"dev", "users:", `deny: {clients: [c5, c4]}` + "\n  users:", 0x87, true},
			"filters widened":    {"eve", `publish: ["sensors/%c/#", `, `publish: ["#", `, 0, false},
			"nothing is changed": {"eve", "backoff: 20ms", "backoff: 21ms", 0, false},
		} {
			for _, version := range []byte{4, 5} {
				a.t.Run(fmt.Sprintf("%s/v%d", name, version), func(t *testing.T) {
					b := a.in(t)
					id := fmt.Sprintf("c%d", version)
					x := mustLogIn(t, b.lab, account{version: version, id: id, user: c.user})
					topic := "sensors/" + id + "/temp"
					b.warm(x, topic)
					old, fresh := c.old, c.fresh
					if name == "password changed" {
						old, fresh = b.sys.hash("eve"), hashOf(t, "new")
					}
					b.sys.reload(old, fresh, "msg=reloaded")
					defer b.sys.reload(fresh, old, "msg=reloaded")
					if c.gone {
						b.wasTold(x, version)
						return
					}
					code, end := x.answer(topic, 7, "msg")
					switch {
					case c.code == 0 && (code != 0 || end):
						t.Errorf("refused: reason code %#x, end %v", code, end)
					case c.code != 0 && version == 5 && (code != c.code || end):
						t.Errorf("reason code %#x, end %v, want %#x", code, end, c.code)
					case c.code != 0 && version == 4 && !end:
						t.Error("acknowledged")
					}
					if c.code == 0 {
						b.expect("msg")
					} else {
						b.expect()
					}
				})
			}
		}
	})
}

// wasTold: the client is disconnected, with the reason where there is one, and
// what it still sends reaches nobody.
func (a *authority) wasTold(x *accountConn, version byte) {
	a.t.Helper()
	_, err := x.Write(x.message("sensors/x/temp", 8, "msg after the end"))
	if code := x.ending(); err == nil && version == 5 && code != 0x87 && code != 0 {
		a.t.Errorf("DISCONNECT with %#x", code)
	}
	if n := len(first(a.got.all())); n != 3 {
		a.t.Errorf("function got %d messages, want 3", n)
	}
}

// hash is the password hash of an account in the configuration file.
func (s *system) hash(user string) string {
	s.t.Helper()
	text, err := os.ReadFile(s.file)
	if err != nil {
		s.t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "username: "+user+`, password_hash: "`)
	hash, _, ok := strings.Cut(after, `"`)
	if !ok {
		s.t.Fatalf("no account %s", user)
	}
	return hash
}

// TestRefusedReloadChangesNothing: neither rights nor anything else of a file
// that is wrong somewhere.
func TestRefusedReloadChangesNothing(t *testing.T) {
	eachPath(t, func(a *authority) {
		x := mustLogIn(a.t, a.lab, account{version: 5, id: "c", user: "dev"})
		a.warm(x, "sensors/c/temp")
		a.sys.reload(`{username: dev,`, `{username: dev, publish: ["none/#"], nonsense: 1,`, "reload refused")
		if code, end := x.answer("sensors/c/temp", 7, "msg"); code != 0 || end {
			a.t.Errorf("reason code %#x, end %v", code, end)
		}
		if a.mode != "fallback" {
			a.refusedLate()
		}
		a.expect("msg")
	})
}

// TestFixedKeysNeedRestart: a reload that changes what is fixed at the start is
// refused, by the loader and by userspace-fallback, and names the key.
func TestFixedKeysNeedRestart(t *testing.T) {
	eachPath(t, func(a *authority) {
		a.sys.reload("auth:", "limits: {max_packet_size: 2048}\nauth:", "limits changed: restart")
		a.expect()
	})
}

// refusedLate: a file without a mistake of its own, but with a function that needs
// more buffers than there were at the start.
func (a *authority) refusedLate() {
	a.t.Helper()
	shown := func() string {
		return fmt.Sprint(a.sys.mapsctl("functions"), a.sys.mapsctl("pods")[0]["pod"], len(a.sys.mapsctl("pods")))
	}
	before := shown()
	a.sys.reload(`username: dev, publish: ["none/#"], nonsense: 1,`, `username: dev,`, "msg=reloaded")
	a.sys.reload("pipeline: 1", "timeout: 7s\n    concurrency: 3\n    pipeline: 8", "reload refused")
	if after := shown(); after != before {
		a.t.Errorf("a refused reload changed what is installed:\n%s\nbefore:\n%s", after, before)
	}
}

// TestNothingAfterTheEnd: behind DISCONNECT, after another connection has taken
// the session over, after the keep-alive has expired and after a kick nothing more
// of a client becomes a message.
func TestNothingAfterTheEnd(t *testing.T) {
	ends := map[string]func(a *authority, x *accountConn){
		"DISCONNECT in the segment": func(a *authority, x *accountConn) {
			x.write(append([]byte{0xe0, 0}, x.message("sensors/c/temp", 8, "msg behind")...))
		},
		"DISCONNECT behind a message": func(a *authority, x *accountConn) {
			b := append(x.message("sensors/c/temp", 7, "msg before"), 0xe0, 0)
			x.write(append(b, x.message("sensors/c/temp", 8, "msg behind")...))
		},
		"DISCONNECT": func(a *authority, x *accountConn) { x.write([]byte{0xe0, 0}) },
		"takeover": func(a *authority, x *accountConn) {
			mustLogIn(a.t, a.lab, account{version: x.version, id: "c", user: "eve"})
		},
		"expiry": func(a *authority, x *accountConn) { x.ending() },
		"kick": func(a *authority, x *accountConn) {
			if a.mode == "fallback" { // has no control socket
				x.write([]byte{0xe0, 0})
				return
			}
			a.kick("c")
		},
	}
	eachPath(t, func(a *authority) {
		for name, end := range ends {
			for _, user := range []string{"dev", "eve"} {
				a.t.Run(name+"/"+user, func(t *testing.T) {
					b := a.in(t)
					keepAlive := byte(0)
					if name == "expiry" {
						keepAlive = 1
					}
					x := mustLogIn(t, b.lab, account{version: 4, id: "c", user: user, keepAlive: keepAlive})
					b.warm(x, "sensors/c/temp")
					end(b, x)
					for i := range 2 {
						_, err := x.Write(x.message("sensors/c/temp", uint16(9+i), "msg after"))
						if err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
							t.Error(err)
						}
					}
					x.ending()
					if name == "DISCONNECT behind a message" {
						b.expect("msg before")
					} else {
						b.expect()
					}
				})
			}
		}
	})
}

// kick disconnects a client by mapsctl.
func (a *authority) kick(id string) {
	a.t.Helper()
	if out, err := exec.Command(filepath.Join(bin, "mapsctl"), "clients", "kick", "--bpffs", a.lab.BPFFS(), id).CombinedOutput(); err != nil {
		a.t.Errorf("kick: %v: %s", err, out)
	}
}

// TestWillsGoTheSameWay: a will is judged like a PUBLISH, at CONNECT and when it is
// published, and one on a route goes to the function and to no subscriber.
func TestWillsGoTheSameWay(t *testing.T) {
	eachPath(t, func(a *authority) {
		sub := mustLogIn(a.t, a.lab, account{version: 4, id: "watch", user: "admin"})
		sub.write([]byte(samples.Packet(0x82, "\x00\x01", samples.String("#"), "\x00")))
		if p := sub.packet(); p[0] != 0x90 {
			a.t.Fatalf("% x", p)
		}
		for _, version := range []byte{4, 5} {
			id := fmt.Sprintf("w%d", version)
			if _, code := logIn(a.t, a.lab, account{version: version, id: id, user: "eve", will: "cmd/d2/reboot"}); code == 0 {
				a.t.Error("connected with a will that it may not publish")
			}
			for _, user := range []string{"dev", "eve"} {
				x := mustLogIn(a.t, a.lab, account{version: version, id: id, user: user, will: "sensors/" + id + "/temp"})
				a.warm(x, "sensors/"+id+"/temp")
				_ = x.Close() // without DISCONNECT
				a.waitFor("will of " + id + " " + user)
				x = mustLogIn(a.t, a.lab, account{version: version, id: id, user: user, will: "plain/" + id})
				_ = x.Close()
				if p := sub.packet(); p[0]&0xf0 != 0x30 || !strings.HasSuffix(string(p), "will of "+id+" "+user) || !strings.Contains(string(p), "plain/") {
					a.t.Errorf("subscriber got %q, want the will that is not routed", p)
				}
			}
		}
		// what is allowed at CONNECT and not any more is not published
		x := mustLogIn(a.t, a.lab, account{version: 4, id: "late", user: "eve", will: "plain/late"})
		a.sys.reload(`, "plain/%c"]`, `]`, "msg=reloaded")
		_ = x.Close()
		a.expect("will of w4 dev", "will of w4 eve", "will of w5 dev", "will of w5 eve")
		sub.write([]byte{0xc0, 0})
		if p := sub.packet(); p[0] != 0xd0 {
			a.t.Errorf("subscriber got %q, want PINGRESP", p)
		}
	})
}

// waitFor waits until the function has this body.
func (a *authority) waitFor(body string) {
	a.t.Helper()
	for n := 1; ; n++ {
		if slices.ContainsFunc(a.got.wait(a.t, n), func(q request) bool { return q.body == body }) {
			return
		}
		n = len(first(a.got.all()))
	}
}

// TestResponseTopicNeedsTheRight: a function's response is published only where
// the client that asked for it may publish itself.
func TestResponseTopicNeedsTheRight(t *testing.T) {
	eachPath(t, func(a *authority) {
		sub := mustLogIn(a.t, a.lab, account{version: 4, id: "watch", user: "admin"})
		sub.write([]byte(samples.Packet(0x82, "\x00\x01", samples.String("#"), "\x00")))
		sub.packet()
		x := mustLogIn(a.t, a.lab, account{version: 5, id: "e", user: "eve"})
		for i, topic := range []string{"cmd/other/x", "$SYS/x", "plain/e"} {
			if code, end := x.answer("sensors/e/temp", uint16(i+1), "msg", "\x08"+samples.String(topic)); code != 0 || end {
				a.t.Errorf("%s: reason code %#x, end %v", topic, code, end)
			}
		}
		if p := sub.packet(); !strings.Contains(string(p), "plain/e") {
			a.t.Errorf("subscriber got %q first, want the response to plain/e", p)
		}
	})
}

// TestAliasIsJudgedByItsTopic: a PUBLISH with a topic alias only.
func TestAliasIsJudgedByItsTopic(t *testing.T) {
	eachPath(t, func(a *authority) {
		const alias = "\x23\x00\x01"
		for _, user := range []string{"dev", "eve"} {
			x := mustLogIn(a.t, a.lab, account{version: 5, id: "al", user: user})
			for i, topic := range []string{"sensors/al/temp", ""} {
				if code, end := x.answer(topic, uint16(i+1), "msg "+user, alias); code != 0 || end {
					a.t.Errorf("%s: reason code %#x, end %v", user, code, end)
				}
			}
			_ = x.Close()
		}
		x := mustLogIn(a.t, a.lab, account{version: 5, id: "al", user: "eve"})
		for i, topic := range []string{"sensors/other/temp", ""} {
			if code, _ := x.answer(topic, uint16(i+1), "msg stolen", alias); code != 0x87 {
				a.t.Errorf("reason code %#x, want 0x87", code)
			}
		}
		a.expect("msg dev", "msg dev", "msg eve", "msg eve")
	})
}

// TestRevocationUnderLoad: clients publish without a pause on two processors while
// reloads take their rights and give them back. What was sent after a reload was
// reported that took them never arrives.
func TestRevocationUnderLoad(t *testing.T) {
	eachPath(t, func(a *authority) {
		const clients, rounds = 4, 8
		var sent [clients]counter
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for i := range clients {
			x := mustLogIn(a.t, a.lab, account{version: 5, id: fmt.Sprint("load", i), user: "dev"})
			wg.Go(func() {
				for n := int64(1); ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					sent[i].set(n)
					if _, err := x.Write(x.message(fmt.Sprintf("sensors/load%d/temp", i), uint16(n%60000+1), fmt.Sprintf("msg %d %d", i, n))); err != nil {
						a.t.Error(err)
						return
					}
					if _, err := x.next(); err != nil { // PUBACK, with whatever reason code
						a.t.Error(err)
						return
					}
				}
			})
		}
		type gap struct{ from, to [clients]int64 } // of numbers that must not arrive
		var gaps []gap
		snapshot := func() (n [clients]int64) {
			for i := range n {
				n[i] = sent[i].get()
			}
			return n
		}
		for range rounds {
			a.grow(clients * 20)
			a.sys.reload(`{username: dev,`, `{username: dev, publish: ["none/#"],`, "msg=reloaded")
			g := gap{from: snapshot()}
			for i := range clients { // each meets the refusal a few times
				sent[i].reach(g.from[i] + 5)
			}
			g.to = snapshot()
			gaps = append(gaps, g)
			a.sys.reload(`{username: dev, publish: ["none/#"],`, `{username: dev,`, "msg=reloaded")
		}
		close(stop)
		wg.Wait()
		arrived := map[string]bool{}
		for _, q := range first(a.got.all()) {
			arrived[q.body] = true
		}
		for _, g := range gaps {
			for i := range clients {
				for n := g.from[i] + 1; n < g.to[i]; n++ { // the last one may be judged after they have come back
					if arrived[fmt.Sprintf("msg %d %d", i, n)] {
						a.t.Errorf("message %d of client %d arrived, sent after its rights had ended at %d", n, i, g.from[i])
					}
				}
			}
		}
		if len(arrived) < clients*rounds*20 {
			a.t.Errorf("only %d messages arrived", len(arrived))
		}
	})
}

// grow waits until so many more messages have reached the function.
func (a *authority) grow(n int) {
	a.t.Helper()
	a.got.wait(a.t, len(first(a.got.all()))+n)
}

// counter is a number that only grows, and that can be waited for.
type counter struct {
	mu   sync.Mutex
	n    int64
	more chan struct{} // closed and replaced whenever it grows
}

func (c *counter) set(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n = n
	if c.more != nil {
		close(c.more)
		c.more = nil
	}
}

func (c *counter) get() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// reach waits until it is n; the connection's deadline bounds the wait.
func (c *counter) reach(n int64) {
	for {
		c.mu.Lock()
		if c.n >= n {
			c.mu.Unlock()
			return
		}
		if c.more == nil {
			c.more = make(chan struct{})
		}
		more := c.more
		c.mu.Unlock()
		<-more
	}
}
