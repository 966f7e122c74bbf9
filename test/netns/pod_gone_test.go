package netns

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"eproxy/test/lib/lab"
)

// start1 starts another program's function on one pod; it can be killed.
func (r *recorder) start1(t *testing.T, l *lab.Lab, pod lab.Role) *lab.Process {
	t.Helper()
	cmd := lab.Command(context.Background(), "node", "servers/node.js", "8080")
	// not StdoutPipe: Wait would close it with what the program has printed last,
	// which is read to its end here
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = in
	p, err := l.StartServing(pod, cmd)
	in.Close()
	if err != nil {
		out.Close()
		t.Fatal(err)
	}
	r.readers.Go(func() {
		defer out.Close()
		readJSON(out, r.add)
	})
	return p
}

// TestPodGone: pods are killed with requests in flight, come back, and lose
// their interface; messages go to the other pod, nothing acknowledged is
// missing, and slots come back.
func TestPodGone(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			seed := seedOf(t)
			l := newLab(t)
			r := newRecorder()
			pods := map[lab.Role]*lab.Process{}
			for _, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
				pods[pod] = r.start1(t, l, pod)
			}
			s := start(t, l, mode, podConfig(faultsConfig, false))
			before := s.counts()
			devices := newFleet(l, seed, 5, 600)
			done := make(chan struct{})
			go func() {
				defer close(done)
				fleet(t, devices, 4*time.Minute)
			}()
			for i := range 4 {
				r.wait(t, 100*(i+1))
				pod := []lab.Role{lab.Pod0, lab.Pod1}[i%2]
				pods[pod].Kill()
				pods[pod] = r.start1(t, l, pod)
			}
			r.wait(t, 700)
			if err := l.Do(lab.Node, func() error {
				link, err := netlink.LinkByName("pod1")
				if err != nil {
					return err
				}
				return netlink.LinkDel(link)
			}); err != nil {
				t.Fatal(err)
			}
			<-done
			pods[lab.Pod0].Kill()
			pods[lab.Pod1].Kill()
			r.readers.Wait()
			got, _ := r.all()
			duplicates, err := check(got, devices)
			if err != nil {
				t.Error(err)
			}
			after := s.counts()
			taken, eligible := share(before, after)
			t.Logf("taken in the kernel: %d of %d eligible; %d duplicates, %d taken over", taken, eligible, duplicates, after["control/taken_over"])
			if after["control/taken_over"] == 0 {
				t.Error("no message was in flight at a pod that died: the test tests nothing")
			}
		})
	}
}

// settled are the requests once no more come.
func (r *recorder) settled() []request {
	for {
		got, more := r.all()
		select {
		case <-more:
		case <-time.After(300 * time.Millisecond):
			return got
		}
	}
}

// TestPodZeroWindow: a pod that reads nothing closes its window; its messages go
// to another one in time, and none is acknowledged without a response.
func TestPodZeroWindow(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	var deaf atomic.Int64
	listen := func(pod lab.Role, serve func(net.Listener)) {
		ln, err := l.Listen(pod, net.JoinHostPort(lab.PodAddr(pod, false).String(), "8080"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		go serve(ln)
	}
	listen(lab.Pod0, func(ln net.Listener) {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.(*net.TCPConn).SetReadBuffer(2048)
			deaf.Add(1)
		}
	})
	listen(lab.Pod1, func(ln net.Listener) {
		_ = http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			body, _ := io.ReadAll(q.Body)
			r.add(request{body: string(body)})
			ok(0, w, q)
		}))
	})
	cfg := strings.Replace(podConfig(failureConfig, false), "DEAD", "pipeline: 16", 1)
	cfg = strings.Replace(cfg, "attempts: 4", "attempts: 30", 1)
	s := start(t, l, "tc", cfg)
	// Each device stays with the pod that it chose first, of two that are as good as each other.
	const n = 40
	var devices [10]*rawConn
	for i := range devices {
		devices[i] = rawConnect(t, l, fmt.Sprint("dev", i))
	}
	for i := 1; i <= n; i++ {
		c := devices[i%len(devices)]
		c.write(publishPacket("sensors/dev/temp", 1, uint16(i), fmt.Sprintf("%d:%s", i, strings.Repeat("z", 1000))))
	}
	var want [n + 1]bool
	for i := range n {
		c := devices[i%len(devices)]
		_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
		var b [4]byte
		if _, err := io.ReadFull(c, b[:]); err != nil {
			t.Fatal(err)
		}
		id := int(b[2])<<8 | int(b[3])
		if b[0] != 0x40 || id < 1 || id > n || want[id] {
			t.Fatalf("unexpected % x", b)
		}
		want[id] = true
	}
	got, _ := r.all()
	seen := map[string]bool{}
	for _, q := range got {
		seen[q.body] = true
	}
	if len(seen) != n {
		t.Errorf("%d different messages delivered, %d acknowledged", len(seen), n)
	}
	if deaf.Load() == 0 || s.counts()["control/taken_over"] == 0 {
		t.Errorf("the deaf pod got no message: the test tests nothing: %v", s.counts())
	}
}

// TestDeviceLoss: nftables loses packets at random, in the devices' namespace:
// a second injector that shares nothing with the cable.
func TestDeviceLoss(t *testing.T) {
	seed := seedOf(t)
	l := newLab(t)
	rules := "table inet f { chain i { type filter hook input priority 0; meta l4proto tcp numgen random mod 100 < 8 drop; }; " +
		"chain o { type filter hook output priority 0; meta l4proto tcp numgen random mod 100 < 8 drop; }; }"
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	s := start(t, l, "xdp", podConfig(faultsConfig, false))
	before := s.counts()
	if err := l.Do(lab.Dev, func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		cmd.Stderr = os.Stderr
		return cmd.Run()
	}); err != nil {
		t.Fatal(err)
	}
	devices := newFleet(l, seed, 5, 150)
	fleet(t, devices, 4*time.Minute)
	s.checkFleet(t, r, devices, before, true)
	if s.counts()["tc_device_in/reinjected"]+s.counts()["tc_device_in/puback_resent"]+s.counts()["tc_device_in/ahead"] == 0 {
		t.Error("nothing was lost: the test tests nothing")
	}
}
