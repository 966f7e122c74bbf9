package netview

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"eproxy/internal/config"
	"eproxy/internal/lograte"
	"eproxy/internal/podns"
	"eproxy/internal/reach"
)

// fake is interfaces, and GRO at their far ends.
type fake struct {
	attached bool // no interface was made again
	noXDP    error
	xdp      []string // that XDP was attached to
	gro      map[int]bool
	noGRO    error
}

func (f *fake) AttachDevice(string, string) (string, error) { f.attached = true; return "off", nil }
func (f *fake) AttachXDP(name string) (bool, error) {
	if f.noXDP != nil || slices.Contains(f.xdp, name) {
		return false, f.noXDP
	}
	f.xdp = append(f.xdp, name)
	return true, nil
}
func (f *fake) Attached(int) bool               { return f.attached }
func (f *fake) ForgetGone() ([]string, []error) { return nil, nil }
func (f *fake) On(ifindex int) error {
	f.gro[ifindex] = f.noGRO == nil
	return f.noGRO
}
func (f *fake) Has(ifindex int) bool { return f.gro[ifindex] }
func (f *fake) Keep(wanted func(int) bool) (restored []int, errs []error) {
	for ifindex := range f.gro {
		if !wanted(ifindex) {
			delete(f.gro, ifindex)
			restored = append(restored, ifindex)
		}
	}
	return restored, nil
}

func newView(t *testing.T) (*fake, *View, *bytes.Buffer) {
	f, out := &fake{gro: make(map[int]bool)}, &bytes.Buffer{}
	log := slog.New(slog.NewTextHandler(out, nil))
	often := lograte.New(log)
	t.Cleanup(often.Close)
	v := New(nil, nil, new(uint32), log, often)
	v.path, v.gro = f, f
	return f, v, out
}

// looks says whether the network is to be looked at.
func (v *View) looks() bool {
	select {
	case <-v.changed:
		return true
	default:
		return false
	}
}

// TestXDPComesWithTheFirstPod: XDP is attached when a pod takes redirects, and stays; where it cannot
// be, that is said once, and tried again when an interface was made again.
func TestXDPComesWithTheFirstPod(t *testing.T) {
	f, v, out := newView(t)
	if _, _, err := v.AttachDevice("lo", "on"); err != nil {
		t.Fatal(err)
	}
	v.Configure(&config.Config{})
	v.SettleXDP(false)
	if *v.idle != 1 || len(f.xdp) > 0 {
		t.Error("attached for nobody")
	}
	f.noXDP = errors.New("not supported")
	for range 2 {
		v.SettleXDP(true)
	}
	if v.node.XDP || !v.looks() || strings.Count(out.String(), "no native XDP here") != 1 {
		t.Errorf("XDP cannot be had: %v\n%s", v.node.XDP, out)
	}
	v.Configure(&config.Config{})
	if v.node.XDP {
		t.Error("a reload has forgotten that XDP cannot be had")
	}
	f.noXDP, f.attached = nil, false
	if again, errs := v.AttachAgain(); !again || errs != nil || !v.node.XDP {
		t.Errorf("an interface was made again: %v, %v, XDP %v", again, errs, v.node.XDP)
	}
	v.SettleXDP(true)
	v.SettleXDP(false)
	v.SettleXDP(true)
	if *v.idle != 0 || len(f.xdp) != 1 || v.looks() {
		t.Errorf("attached %v, idle %d", f.xdp, *v.idle)
	}
}

// TestNoXDPWanted: with XDP off no pod is reached by it.
func TestNoXDPWanted(t *testing.T) {
	f, v, _ := newView(t)
	_, _, _ = v.AttachDevice("lo", "off")
	v.Configure(&config.Config{})
	v.SettleXDP(true)
	if v.node.XDP || len(f.xdp) > 0 {
		t.Error("XDP is off and used")
	}
}

// TestAutoKnowsDrivers: where the driver's XDP costs more than TC, auto attaches none and pods are reached by TC; an
// interface that is made again may have another driver.
func TestAutoKnowsDrivers(t *testing.T) {
	f, v, _ := newView(t)
	slow := "it is slow"
	v.choose = func(_, choice string) (string, string) {
		if slow != "" {
			return "off", slow
		}
		return choice, ""
	}
	if _, why, err := v.AttachDevice("lo", "auto"); why != slow || err != nil {
		t.Errorf("%q, %v", why, err)
	}
	v.Configure(&config.Config{})
	v.SettleXDP(true)
	if v.node.XDP || len(f.xdp) > 0 {
		t.Error("attached though it is slow")
	}
	slow, f.attached = "", false
	if again, errs := v.AttachAgain(); !again || errs != nil || !v.node.XDP {
		t.Errorf("an interface was made again: %v, %v, XDP %v", again, errs, v.node.XDP)
	}
	if v.SettleXDP(true); len(f.xdp) != 1 {
		t.Errorf("attached %v", f.xdp)
	}
}

// TestGROIsGivenBack: redirects to an interface end before GRO is restored at its far end.
func TestGROIsGivenBack(t *testing.T) {
	f, v, _ := newView(t)
	pod := netip.MustParseAddr("127.0.0.1") // reached through no interface, as one that has moved
	tc, xdp := reach.Path{Way: reach.TC, Ifindex: 7, GRO: true}, reach.Path{Way: reach.XDP, Ifindex: 7}
	v.Configure(&config.Config{PodsGRO: true})
	f.noGRO = podns.ErrNotFound
	if served, found, lacks := v.Improve(pod, tc); !lacks || served.Reason == "" || found != tc {
		t.Errorf("GRO cannot be switched on: %+v, %+v, %v", served, found, lacks)
	}
	f.noGRO = nil
	if served, _, lacks := v.Improve(pod, tc); lacks || served != tc || !f.gro[7] {
		t.Errorf("the pod has moved: %+v", served)
	}
	if got := v.KeepGRO(map[int]bool{7: true}); len(got) > 0 || v.LosesGRO(7) {
		t.Errorf("restored %v in use", got)
	}
	v.Configure(&config.Config{})
	if served, found, _ := v.Improve(pod, xdp); served.Way != reach.TC || found != xdp || !v.LosesGRO(7) || !f.gro[7] {
		t.Errorf("GRO is not wanted any more: %+v", served)
	}
	if got := v.KeepGRO(map[int]bool{7: true}); !slices.Equal(got, []int{7}) || f.gro[7] {
		t.Errorf("restored %v", got)
	}
}
