package netns

import (
	"fmt"
	"os/exec"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"eproxy/test/lib/lab"
)

// TestPriorityTag: a device whose frames bear a priority tag (VLAN 0), which the
// kernel treats as none, is served as any other.
func TestPriorityTag(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			s := start(t, l, mode, podConfig(routeConfig, false))
			tagEverything(t, l, 3<<13)
			stop := []func() string{capture(t, l, lab.Pod0, "eth0"), capture(t, l, lab.Pod1, "eth0")}
			s.warm(t, "sensors/warm/temp", 1)
			r.forget()
			before := s.counts()
			c := rawConnect(t, l, "tagged")
			const n = 50
			for i := range n {
				c.publish("sensors/tagged/temp", uint16(i+1), fmt.Sprint(i))
			}
			c.write([]byte{0xc0, 0}) // passes
			c.read([]byte{0xd0, 0})
			if got, _ := r.all(); len(got) != n {
				t.Errorf("%d of %d messages arrived", len(got), n)
			}
			if taken, eligible := share(before, s.counts()); taken*100 < eligible*99 || taken < n*99/100 {
				t.Errorf("the kernel took %d of %d messages", taken, n)
			}
			for _, file := range []string{stop[0](), stop[1]()} {
				out, err := exec.Command("tshark", "-n", "-r", file, "-Y", "vlan").Output()
				if err != nil || len(out) > 0 {
					t.Errorf("the devices' tag reached a pod: %v\n%.500s", err, out)
				}
			}
		})
	}
}

// tagEverything puts a tag on all that the devices send.
func tagEverything(t *testing.T, l *lab.Lab, tci int32) {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R2, 0x0081), // ETH_P_8021Q, network byte order
		asm.Mov.Imm(asm.R3, tci),
		asm.FnSkbVlanPush.Call(),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = prog.Close() })
	var attached link.Link
	err = l.Do(lab.Dev, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err == nil {
			attached, err = link.AttachTCX(link.TCXOptions{Interface: eth0.Attrs().Index, Program: prog, Attach: ebpf.AttachTCXEgress})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = attached.Close() })
}
