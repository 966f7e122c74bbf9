package netns

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"eproxy/internal/privilege"
	"eproxy/test/lib/lab"
)

// newCNILab is newLab with pods as CNI plugins make them.
func newCNILab(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := lab.NewCNI()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// gro says whether GRO is on at a pod's end.
func gro(t *testing.T, l *lab.Lab, pod lab.Role) (on bool) {
	t.Helper()
	if err := l.Do(pod, func() (err error) { on, err = lab.GRO("eth0"); return err }); err != nil {
		t.Fatal(err)
	}
	return on
}

// setGRO switches it as a pod's owner does.
func setGRO(t *testing.T, l *lab.Lab, pod lab.Role, on bool) {
	t.Helper()
	if err := l.Do(pod, func() error { return lab.SetGRO("eth0", on) }); err != nil {
		t.Fatal(err)
	}
}

// groBecomes waits until GRO is so at both pods' ends.
func groBecomes(t *testing.T, l *lab.Lab, pod0, pod1 bool) {
	t.Helper()
	eventually(t, func() (bool, string) {
		on0, on1 := gro(t, l, lab.Pod0), gro(t, l, lab.Pod1)
		return on0 == pod0 && on1 == pod1, fmt.Sprintf("GRO at the pods' ends: %v, %v", on0, on1)
	})
}

// takenBy publishes and says how many messages XDP and TC took.
func (s *system) takenBy(r *recorder, n int) (xdp, tc int) {
	s.t.Helper()
	before := s.counts()
	deliverSome(s.t, s.lab, r, n)
	after := s.counts()
	return after["xdp_device/taken"] - before["xdp_device/taken"], after["tc_device_in/taken"] - before["tc_device_in/taken"]
}

const groOn = "pods_gro: on\n"

// TestPodsGRO: with pods as CNI plugins make them messages are taken at TC, and GRO
// stays off. With pods_gro they are taken at XDP, also when a pod was made again,
// and GRO is off again when a pod is no longer the loader's, or the key says so.
func TestPodsGRO(t *testing.T) {
	l := newCNILab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	s := start(t, l, "on", podConfig(routeConfig, false))
	if xdp, tc := s.takenBy(r, 10); xdp != 0 || tc != 10 {
		t.Errorf("GRO off: XDP took %d of 10, TC %d", xdp, tc)
	}
	groBecomes(t, l, false, false)

	s.reload("functions:", groOn+"functions:", "msg=reloaded")
	groBecomes(t, l, true, true)
	if xdp, tc := s.takenBy(r, 10); xdp != 10 {
		t.Errorf("pods_gro: XDP took %d of 10, TC %d", xdp, tc)
	}
	if _, out := loader(t, l, "status", "--bpffs", l.BPFFS()); !hasLine(out, "gro", "pod0", "on", "switched on at the pod's end (pods_gro), until the loader stops or loader unload") {
		t.Errorf("status:\n%s", out)
	}

	if err := l.Cut(lab.Pod0); err != nil {
		t.Fatal(err)
	}
	if err := l.Join(lab.Pod0); err != nil {
		t.Fatal(err)
	}
	groBecomes(t, l, true, true)
	eventually(t, func() (bool, string) {
		for _, pod := range s.mapsctl("pods") {
			if fmt.Sprint(pod["idle"]) == "0" {
				return false, fmt.Sprint(pod)
			}
		}
		return true, ""
	})
	if xdp, tc := s.takenBy(r, 20); xdp != 20 {
		t.Errorf("pod made again: XDP took %d of 20, TC %d", xdp, tc)
	}

	s.reload(`, "10.88.2.2:8080"`, "", "msg=reloaded")
	groBecomes(t, l, true, false)
	s.reload(`"10.88.1.2:8080"`, `"10.88.1.2:8080", "10.88.2.2:8080"`, "msg=reloaded")
	groBecomes(t, l, true, true)
	s.reload(groOn, "", "msg=reloaded")
	groBecomes(t, l, false, false)
	if xdp, tc := s.takenBy(r, 10); xdp != 0 || tc != 10 {
		t.Errorf("switched off again: XDP took %d of 10, TC %d", xdp, tc)
	}
}

// TestPodsGROIsRestored: GRO is off again after a clean stop, and after SIGKILL and
// loader unload, or the next start without pods_gro; where it was on before it stays on.
func TestPodsGROIsRestored(t *testing.T) {
	l := newCNILab(t)
	setGRO(t, l, lab.Pod1, true)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	abs, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	run := func(config string) *lab.Process {
		t.Helper()
		p, err := l.StartEproxy(context.Background(), t.TempDir(), lab.Eproxy{Bin: abs, Mode: "on", Config: config + podConfig(routeConfig, false)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		return p
	}
	p := run(groOn)
	groBecomes(t, l, true, true)
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	groBecomes(t, l, false, true)

	p = run(groOn)
	groBecomes(t, l, true, true)
	p.Kill()
	if on := gro(t, l, lab.Pod0); !on {
		t.Error("GRO went off with SIGKILL, while XDP redirects")
	}
	if code, out := loader(t, l, "unload", "--bpffs", l.BPFFS()); code != 0 {
		t.Errorf("unload: exit %d: %s", code, out)
	}
	groBecomes(t, l, false, true)

	run(groOn).Kill()
	groBecomes(t, l, true, true)
	p = run("")
	groBecomes(t, l, false, true)
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	groBecomes(t, l, false, true)
}

// TestPodsGROIsTheirOwners: where somebody in a pod switches GRO off again the
// loader notices at once, takes that pod's messages at TC and leaves GRO alone, on as
// off.
func TestPodsGROIsTheirOwners(t *testing.T) {
	l := newCNILab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	s := start(t, l, "on", groOn+podConfig(routeConfig, false))
	groBecomes(t, l, true, true)
	for _, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
		noticed := s.Expect("it was switched off again there since the loader had switched it on")
		setGRO(t, l, pod, false)
		if err := noticed(); err != nil {
			t.Fatal(err)
		}
	}
	if xdp, tc := s.takenBy(r, 10); xdp != 0 || tc != 10 {
		t.Errorf("XDP took %d of 10, TC %d", xdp, tc)
	}
	groBecomes(t, l, false, false)
	if _, out := loader(t, l, "status", "--bpffs", l.BPFFS()); !hasLine(out, "gro", "pod1", "off", "switched on at the pod's end (pods_gro), and off again by somebody there") {
		t.Errorf("status:\n%s", out)
	}
	taken := s.Expect(`msg="messages for a pod are taken at XDP"`)
	setGRO(t, l, lab.Pod0, true)
	if err := taken(); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if !gro(t, l, lab.Pod0) {
		t.Error("GRO that the pod's owner switched on is off")
	}
}

// TestPodsGRONeedsACapability: without CAP_SYS_ADMIN the loader says so, in one line
// for each pod, and serves at TC; check says before what run will do, and doctor what it cannot.
func TestPodsGRONeedsACapability(t *testing.T) {
	l := newCNILab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	abs, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	config := "interfaces: [eth0]\nxdp: on\n" + groOn + podConfig(routeConfig, false)
	const will = "taken at XDP: loader run switches GRO on at the far end of pod0 (pods_gro)"
	file := configFile(t, l, config)
	if code, out := loader(t, l, "check", "--config", file); code != 0 || !strings.Contains(out, "pod 10.88.1.2:8080 of temp: here "+will+"\n") {
		t.Errorf("check: exit %d:\n%s", code, out)
	}
	groBecomes(t, l, false, false)

	const why = "GRO cannot be switched on at the far end of pod0 (pods_gro): enter its network namespace: that needs CAP_SYS_ADMIN, which is missing"
	under := confined(privilege.Needed())
	out, err := l.Run(context.Background(), lab.Node, under[0], append(under[1:], filepath.Join(abs, "loader"), "doctor", "--config", file)...)
	if err != nil || !hasLine(string(out), "pod 10.88.1.2:8080 of temp", "degraded", "taken at TC: "+why) {
		t.Errorf("doctor without CAP_SYS_ADMIN: %v:\n%s", err, out)
	}
	dir := t.TempDir()
	p, err := l.StartEproxy(context.Background(), dir, lab.Eproxy{Bin: abs, Mode: "on", Config: groOn + podConfig(routeConfig, false), Under: under})
	if err != nil {
		t.Fatal(err)
	}
	s := &system{Process: p, t: t, lab: l, mode: "on", file: filepath.Join(dir, "eproxy.yaml")}
	if xdp, tc := s.takenBy(r, 10); xdp != 0 || tc != 10 {
		t.Errorf("XDP took %d of 10, TC %d", xdp, tc)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(p.Log(), why); n != 1 {
		t.Errorf("the log says %d times %q:\n%s", n, why, p.Log())
	}
}
