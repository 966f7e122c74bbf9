package netns

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"eproxy/test/lib/lab"
)

// TestXDPWaitsForAPod: with xdp: on the XDP program is attached with the first pod
// that takes redirects, not before. It stays when no pod does any more, and is attached
// again to an interface that is made anew.
func TestXDPWaitsForAPod(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	setGRO := func(on bool) {
		t.Helper()
		for _, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
			if err := l.Do(pod, func() error { return lab.SetGRO("eth0", on) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	setGRO(false)
	s := start(t, l, "on", oneFunction)
	reload := func() {
		t.Helper()
		done := s.Expect("msg=reloaded")
		if err := errors.Join(s.Signal(unix.SIGHUP), done()); err != nil {
			t.Fatal(err)
		}
	}
	// takes publishes, and looks which hook took the messages and whether XDP is attached.
	takes := func(hook string, attached bool) {
		t.Helper()
		before := s.counts()
		s.kernelTakes(rawConnect(t, l, "dev-"+hook), 3)
		after := s.counts()
		for _, h := range []string{"xdp_device", "tc_device_in"} {
			if n := after[h+"/taken"] - before[h+"/taken"]; (n > 0) != (h == hook) {
				t.Errorf("%s took %d messages, %s is to take all", h, n, hook)
			}
		}
		_, status := loader(t, l, "status", "--bpffs", l.BPFFS())
		if got := hasLine(status, "link", "xdp_device-eth0", "attached", "xdp native"); got != attached {
			t.Errorf("XDP is attached: %v, want %v:\n%s", got, attached, status)
		}
	}
	takes("tc_device_in", false)

	setGRO(true)
	reload()
	takes("xdp_device", true)

	setGRO(false)
	reload()
	takes("tc_device_in", true)

	setGRO(true)
	reload()
	gone := s.Expect(`msg="interface is gone" interface=eth0`)
	if err := l.Cut(lab.Dev); err != nil {
		t.Fatal(err)
	}
	if err := gone(); err != nil {
		t.Fatal(err)
	}
	back := s.Expect(`msg=attached interface=eth0 xdp=native`)
	if err := l.Join(lab.Dev); err != nil {
		t.Fatal(err)
	}
	if err := back(); err != nil {
		t.Fatal(err)
	}
	takes("xdp_device", true)
	if n := strings.Count(s.Log(), "msg=attached interface=eth0 xdp=native"); n != 2 {
		t.Errorf("the log says %d times that XDP was attached, want 2", n)
	}
}

// TestAutoLeavesVethToTC: XDP costs more than TC on veth, so xdp: auto attaches none there, whatever pods take, and
// run, check, doctor and status say so.
func TestAutoLeavesVethToTC(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	s := start(t, l, "auto", podConfig(routeConfig, false))
	if xdp, tc := s.takenBy(r, 5); xdp != 0 || tc != 5 {
		t.Errorf("XDP took %d of 5 messages, TC %d", xdp, tc)
	}
	const why = "XDP costs more than TC with its driver veth: "
	if !strings.Contains(s.Log(), `msg=attached interface=eth0 xdp=off because="`+why) {
		t.Error("run does not say why XDP is not used")
	}
	if _, out := loader(t, l, "status", "--bpffs", l.BPFFS()); strings.Contains(out, "xdp_device-eth0") {
		t.Errorf("XDP is attached:\n%s", out)
	}
	file := configFile(t, l, "interfaces: [eth0]\n"+podConfig(routeConfig, false))
	if code, out := loader(t, l, "check", "--config", file); code != 0 || !strings.Contains(out, "TC (xdp: auto: "+why) {
		t.Errorf("check: exit %d:\n%s", code, out)
	}
	if code, out := loader(t, l, "doctor", "--config", file); code != 0 || !strings.Contains(out, "TC only (xdp: auto: "+why) {
		t.Errorf("doctor: exit %d:\n%s", code, out)
	}
}
