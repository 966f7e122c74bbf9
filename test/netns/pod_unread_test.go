package netns

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"eproxy/test/lib/lab"
)

// gathering is a listener that knows the connections which it has accepted.
type gathering struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (g *gathering) Accept() (net.Conn, error) {
	c, err := g.Listener.Accept()
	if err == nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.conns = append(g.conns, c)
	}
	return c, err
}

// closeAll closes the connections that were accepted so far.
func (g *gathering) closeAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.conns {
		_ = c.Close()
	}
	g.conns = nil
}

// nft runs nftables commands on a host.
func nft(t *testing.T, l *lab.Lab, host lab.Role, commands string) {
	t.Helper()
	err := l.Do(host, func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(commands)
		cmd.Stderr = os.Stderr
		return cmd.Run()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// waitDropped waits until a host has dropped a packet by a rule of this table.
func waitDropped(t *testing.T, l *lab.Lab, host lab.Role, table string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		var out []byte
		err := l.Do(host, func() (err error) {
			out, err = exec.Command("nft", "list", "table", "inet", table).Output()
			return err
		})
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%v: nothing is dropped: %s", err, out)
		}
		if !strings.Contains(string(out), "packets 0") {
			return
		}
	}
}

// TestUnreadIsSentAgain: a pod closes a connection just as a request is on its way there. Its FIN says that it has
// not got it: the message is sent again, also with QoS 0, and arrives once.
func TestUnreadIsSentAgain(t *testing.T) {
	for _, mode := range []string{"xdp", "tc", "fallback"} {
		for _, qos := range []byte{0, 1} {
			t.Run(mode+" QoS "+string('0'+qos), func(t *testing.T) {
				l := newLab(t)
				r := newRecorder()
				address := net.JoinHostPort(lab.PodAddr(lab.Pod0, false).String(), "8080")
				ln, err := l.Listen(lab.Pod0, address)
				if err != nil {
					t.Fatal(err)
				}
				g := &gathering{Listener: ln}
				srv := &http.Server{Handler: r.handler(ok)}
				go func() { _ = srv.Serve(g) }()
				t.Cleanup(func() { _ = srv.Close() })
				s := start(t, l, mode, strings.NewReplacer(`"%s", "%s"`, `"`+address+`"`, "DEAD", "").Replace(failureConfig)+metricsConfig)
				c := rawConnect(t, l, "dev")
				nft(t, l, lab.Pod0, "table inet lost { chain i { type filter hook input priority 0; tcp dport 8080 meta length > 100 counter drop; }; }")
				c.write(publishPacket("sensors/dev/temp", qos, uint16(qos), "unread"))
				waitDropped(t, l, lab.Pod0, "lost")
				g.closeAll()
				waitSeries(t, l, func(s series) bool { return s.sum("eproxy_function_requests_total", `code="0"`) == 1 })
				nft(t, l, lab.Pod0, "delete table inet lost")
				waitSeries(t, l, func(s series) bool { return s.sum("eproxy_messages_total", `outcome="delivered"`) == 1 })
				if mode != "fallback" && s.counts()["control/taken_over"] != 1 {
					t.Errorf("the kernel path did not have it: %v", s.counts())
				}
				if got, _ := r.all(); len(got) != 1 || got[0].body != "unread" {
					t.Errorf("the function got %v", got)
				}
			})
		}
	}
}
