package netns

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"eproxy/test/lib/lab"
)

// otherXDP attaches another program to the node's interface until the test ends,
// and returns its id.
func otherXDP(t *testing.T, l *lab.Lab, mode link.XDPAttachFlags) ebpf.ProgramID {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}}) // XDP_PASS
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	err = l.Do(lab.Node, func() error {
		ifi, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		a, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: ifi.Index, Flags: mode})
		if err == nil {
			t.Cleanup(func() { a.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	info, err := prog.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	return id
}

// TestNoNativeXDP: where XDP cannot be attached, xdp: native is refused in one
// line that says what is in the way, and xdp: on serves at TC, with one warning
// of the same words; doctor knows it before.
func TestNoNativeXDP(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(t *testing.T, l *lab.Lab) (why string)
		// doctor does not try beside a program that is attached: it may be eproxy's
		doctor bool
	}{
		{"MTU", func(t *testing.T, l *lab.Lab) string {
			mtu(t, l, lab.Node, 9000)
			mtu(t, l, lab.Dev, 9000)
			return "its MTU of 9000 is too large for XDP on veth, which works up to 3506: lower the MTU, or set xdp: auto or off, which takes messages at TC"
		}, true},
		{"MTU of the far end", func(t *testing.T, l *lab.Lab) string {
			mtu(t, l, lab.Dev, 9000)
			return "the MTU of its far end is too large for XDP on veth, which works up to 3506: lower the MTU, or set xdp: auto or off, which takes messages at TC"
		}, true},
		{"another native program", func(t *testing.T, l *lab.Lab) string {
			return fmt.Sprintf("another XDP program (id %d) is attached: detach it, or set xdp: off", otherXDP(t, l, link.XDPDriverMode))
		}, false},
		{"another generic program", func(t *testing.T, l *lab.Lab) string {
			return fmt.Sprintf("another XDP program (id %d) is attached, in the other mode or to an interface on top: detach it, or set xdp: off", otherXDP(t, l, link.XDPGenericMode))
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			why := "attach XDP (native) to eth0: " + c.make(t, l)
			native := configFile(t, l, "interfaces: [eth0]\nxdp: native\n"+podConfig(routeConfig, false))
			on := configFile(t, l, "interfaces: [eth0]\nxdp: on\n"+podConfig(routeConfig, false))

			if c.doctor {
				if code, out := loader(t, l, "doctor", "--config", native); code != 1 || !hasLine(out, "interface eth0", "missing", why) {
					t.Errorf("doctor, native: exit %d, want 1 and %q:\n%s", code, why, out)
				}
				if code, out := loader(t, l, "doctor", "--config", on); code != 0 || !hasLine(out, "interface eth0", "degraded", "TC only: "+why) {
					t.Errorf("doctor, on: exit %d, want 0 and %q:\n%s", code, why, out)
				}
			}
			if code, out := loader(t, l, "run", "--log-level", "error", "--config", native); code != 1 || out != "loader: "+why+"\n" {
				t.Errorf("native: exit %d, %q, want 1 and %q", code, out, why)
			}
			s := start(t, l, "on", podConfig(routeConfig, false))
			line := fmt.Sprintf("level=WARN msg=\"no native XDP here, messages are taken at TC\" interface=eth0 error=%q", why)
			if strings.Count(s.Log(), line) != 1 {
				t.Errorf("on: the log has %d times %s", strings.Count(s.Log(), line), line)
			}
			deliverSome(t, l, r, 5)
			if n := s.counts()["tc_device_in/taken"]; n != 5 {
				t.Errorf("TC took %d of 5 messages", n)
			}
		})
	}
}

// TestLargestMTU: the MTU that errors name is one that works.
func TestLargestMTU(t *testing.T) {
	l := newLab(t)
	mtu(t, l, lab.Node, 3506)
	mtu(t, l, lab.Dev, 3506)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	s := start(t, l, "xdp", podConfig(routeConfig, false))
	deliverSome(t, l, r, 5)
	if n := s.counts()["xdp_device/taken"]; n == 0 {
		t.Error("XDP took no message")
	}
}

func mtu(t *testing.T, l *lab.Lab, host lab.Role, n int) {
	t.Helper()
	if out, err := l.Run(context.Background(), host, "ip", "link", "set", "eth0", "mtu", fmt.Sprint(n)); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestStatusAsksTheKernel: status names program, interface and mode of each link;
// a link whose interface was deleted is defunct, whether the loader runs or not.
func TestStatusAsksTheKernel(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	abs, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.StartEproxy(context.Background(), t.TempDir(), lab.Eproxy{Bin: abs, Mode: "xdp", Config: podConfig(routeConfig, false)})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	expect := func(lines ...[]string) {
		t.Helper()
		_, out := loader(t, l, "status", "--bpffs", l.BPFFS())
		for _, cells := range lines {
			if !hasLine(out, cells...) {
				t.Errorf("status lacks %v:\n%s", cells, out)
			}
		}
	}
	expect([]string{"loader", "running", ""},
		[]string{"link", "xdp_device-eth0", "attached", "eth0", "xdp_device (id ", ")", "xdp native"},
		[]string{"link", "tc_device_in-eth0", "attached", "eth0", "tc_device_in (id ", "tcx ingress"},
		[]string{"link", "tc_device_out-eth0", "attached", "eth0", "tc_device_out (id ", "tcx egress"},
		[]string{"link", "tc_pod_in-pod0", "attached", "pod0", "tc_pod_in (id ", "tcx ingress"},
		[]string{"link", "tc_pod_out-pod1", "attached", "pod1", "tc_pod_out (id ", "tcx egress"})
	p.Kill()
	onNode(t, l, "ip link del pod1")
	onNode(t, l, "ip link del eth0")
	expect([]string{"loader", "not running", ""},
		[]string{"link", "tc_pod_in-pod0", "attached", "pod0", "tc_pod_in (id ", "tcx ingress"},
		[]string{"link", "tc_pod_in-pod1", "defunct", "tc_pod_in (id ", "tcx ingress: its interface was deleted"},
		[]string{"link", "xdp_device-eth0", "defunct", "xdp_device (id ", "xdp: its interface was deleted"})
	if code, out := loader(t, l, "unload", "--bpffs", l.BPFFS()); code != 0 {
		t.Errorf("unload: exit %d: %s", code, out)
	}
}
