package netns

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/wire"
)

// outage is how long TestLinkDown leaves a link down: long enough for timers of
// every kind to run out, and for a retransmission timer to have doubled seven
// times.
const outage = 30 * time.Second

// TestLinkDown: a link loses everything for half a minute under load. When it is
// the devices', none of their connections breaks; when it is a pod's, its
// messages go to the other one, and it is in service again afterwards. The
// cases run at the same time, each in a lab of its own.
func TestLinkDown(t *testing.T) {
	seed := seedOf(t)
	for _, mode := range []string{"xdp", "tc"} {
		for _, link := range []lab.Role{lab.Dev, lab.Pod0} {
			t.Run(fmt.Sprintf("%s/%s", mode, link), func(t *testing.T) {
				t.Parallel()
				linkDown(t, seed, mode, link)
			})
		}
	}
}

func linkDown(t *testing.T, seed uint64, mode string, link lab.Role) {
	l := newWired(t, seed)
	// What is not acknowledged TCP repeats at intervals that double; so that the
	// test need not wait for a device's next one when the link is up again, they
	// stop at two seconds (Linux 6.15; others wait). It would give up sooner then,
	// too. The node has Linux's default: its sockets' limit is the server's affair.
	for host, ms := range map[lab.Role]string{lab.Dev: "2000", lab.Node: "120000"} {
		if err := l.Do(host, func() error {
			return errors.Join(
				os.WriteFile("/proc/sys/net/ipv4/tcp_retries2", []byte("100"), 0),
				os.WriteFile("/proc/sys/net/ipv4/tcp_rto_max_ms", []byte(ms), 0))
		}); err != nil {
			t.Log(err)
		}
	}
	r := newRecorder()
	r.serveGo(t, l.Lab, false, ok, nil)
	s := start(t, l.Lab, mode, podConfig(faultsConfig, false))
	before := s.counts()
	var all []*device
	round := func(n int) chan struct{} {
		devices := newFleet(l.Lab, seed, 5, n)
		all = append(all, devices...)
		done := make(chan struct{})
		go func() {
			defer close(done)
			fleet(t, devices, 4*time.Minute)
		}()
		return done
	}
	done := round(400)
	r.wait(t, 400)
	l.cables[link].SetDown(true)
	up := time.After(outage) // the duration of the fault
	for down := true; down; {
		select {
		case <-done:
			if link == lab.Dev {
				t.Error("all messages were through before the link went down: the test tests nothing")
				<-up
				down = false
				break
			}
			done = round(200) // the other pod serves them
		case <-up:
			down = false
		}
	}
	lost := l.cables[link].Count(wire.A).Down + l.cables[link].Count(wire.B).Down
	l.cables[link].SetDown(false)
	<-done
	<-round(50)
	s.checkFleet(t, r, all, before, true)
	after := s.counts()
	t.Logf("%d frames were lost, %d devices, %d messages taken over", lost, len(all), after["control/taken_over"]-before["control/taken_over"])
	if lost == 0 {
		t.Error("nothing was lost: the test tests nothing")
	}
	if link != lab.Dev && after["control/taken_over"] == before["control/taken_over"] {
		t.Error("no message was in flight at the pod that went away: the test tests nothing")
	}
}
