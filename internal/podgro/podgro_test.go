package podgro

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"eproxy/internal/bpf"
	"eproxy/internal/podns"
)

// home makes a network namespace for this test's thread.
func home(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

// process runs in a network namespace of its own, that has no name, until the test ends.
func process(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("unshare", "--net", "cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	if _, err := in.Write([]byte{'x'}); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // it has entered its namespace
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// pair makes a veth pair whose far end is in a process's namespace, and returns the
// number of the near end.
func pair(t *testing.T, name string, pid int) int {
	t.Helper()
	veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "eth0", PeerNamespace: netlink.NsPid(pid)}
	veth.Name = name
	if err := withHandle(func(h *netlink.Handle) error { return h.LinkAdd(veth) }); err != nil {
		t.Fatal(err)
	}
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l.Attrs().Index
}

// withHandle runs f with a netlink socket of the thread's namespace.
func withHandle(f func(*netlink.Handle) error) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	return f(h)
}

func newSwitch(t *testing.T) *Switch {
	t.Helper()
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	spec, err := bpf.LoadEproxy()
	if err != nil {
		t.Fatal(err)
	}
	m, err := ebpf.NewMap(spec.Maps[MapName])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return New(m)
}

// at is what GRO is at the far end of an interface.
func at(t *testing.T, ifindex int) bool {
	t.Helper()
	e, err := far(ifindex)
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	on, err := e.gro()
	if err != nil {
		t.Fatal(err)
	}
	return on
}

// TestNamespaceOfAProcess: a namespace without a name is found by a process in it, and
// no thread of this process is in it afterwards.
func TestNamespaceOfAProcess(t *testing.T) {
	home(t)
	pid := process(t)
	s, near := newSwitch(t), pair(t, "a", pid)
	if err := Try(near); err != nil {
		t.Fatal(err)
	}
	if at(t, near) || s.Has(near) {
		t.Error("asking has switched it on")
	}
	if err := s.On(near); err != nil {
		t.Fatal(err)
	}
	if !at(t, near) || !s.Has(near) {
		t.Error("it is not on")
	}
	if err := s.Restore(); err != nil {
		t.Fatal(err)
	}
	if at(t, near) || s.Has(near) {
		t.Error("it is not restored")
	}
	there, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		t.Fatal(err)
	}
	tasks, _ := filepath.Glob("/proc/self/task/*/ns/net")
	for _, task := range tasks {
		if ns, err := os.Readlink(task); err == nil && ns == there {
			t.Errorf("%s is in the pod's namespace", task)
		}
	}
}

// TestOnlyOurOwnIsRestored: GRO that was on before, or that was switched off and on by
// somebody else, or an interface that is another by now with the same number, stays
// as it is.
func TestOnlyOurOwnIsRestored(t *testing.T) {
	home(t)
	s := newSwitch(t)
	before, declined, other := pair(t, "a", process(t)), pair(t, "b", process(t)), pair(t, "c", process(t))
	set := func(ifindex int, on bool) {
		t.Helper()
		e, err := far(ifindex)
		if err != nil {
			t.Fatal(err)
		}
		defer e.close()
		if err := e.setGRO(on); err != nil {
			t.Fatal(err)
		}
	}
	set(before, true)
	for _, i := range []int{before, declined, other} {
		if err := s.On(i); err != nil {
			t.Fatal(err)
		}
	}
	set(declined, false)
	if err := s.On(declined); !errors.Is(err, errDeclined) {
		t.Errorf("after it was switched off there: %v, want %v", err, errDeclined)
	}
	if at(t, declined) {
		t.Error("it was switched on again")
	}
	set(declined, true)
	key := uint32(other)
	note, _, err := s.note(key)
	if err != nil {
		t.Fatal(err)
	}
	note.Cookie++ // of a namespace that is gone
	if err := s.m.Put(&key, &note); err != nil {
		t.Fatal(err)
	}
	if err := s.Restore(); err != nil {
		t.Fatal(err)
	}
	for name, i := range map[string]int{"on before": before, "switched by somebody else": declined, "of another namespace": other} {
		if !at(t, i) {
			t.Errorf("GRO that was %s is off", name)
		}
		if s.Has(i) {
			t.Errorf("%s: still noted", name)
		}
	}
}

// TestGoneIsNoError: pods, and interfaces that are none of a pod.
func TestGoneIsNoError(t *testing.T) {
	home(t)
	s := newSwitch(t)
	near := pair(t, "a", process(t))
	if err := s.On(near); err != nil {
		t.Fatal(err)
	}
	if err := withHandle(func(h *netlink.Handle) error {
		l, err := h.LinkByIndex(near)
		if err != nil {
			return err
		}
		return h.LinkDel(l)
	}); err != nil {
		t.Fatal(err)
	}
	if restored, errs := s.Keep(func(int) bool { return false }); len(errs) != 0 || len(restored) != 1 {
		t.Errorf("restored %v: %v", restored, errs)
	}
	for name, ifindex := range map[string]int{"loopback": 1, "no interface": 12345} {
		if err := s.On(ifindex); !errors.Is(err, errGone) {
			t.Errorf("%s: %v, want %v", name, err, errGone)
		}
	}
}

// TestStrangeNames: what lies among the names of namespaces and is none is passed
// over, without waiting for it.
func TestStrangeNames(t *testing.T) {
	home(t)
	dir := t.TempDir()
	if err := unix.Mkfifo(dir+"/a", 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/b", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/proc/self/ns/uts", dir+"/c"); err != nil {
		t.Fatal(err)
	}
	old := podns.Places
	t.Cleanup(func() { podns.Places = old })
	podns.Places = []string{dir + "/*"}
	if err := Try(pair(t, "a", process(t))); !errors.Is(err, podns.ErrNotFound) {
		t.Errorf("%v, want %v", err, podns.ErrNotFound)
	}
	podns.Places = append(podns.Places, old...)
	if err := Try(pair(t, "b", process(t))); err != nil {
		t.Error(err)
	}
}
