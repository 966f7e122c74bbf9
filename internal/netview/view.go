package netview

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"

	"github.com/vishvananda/netlink"

	"eproxy/internal/config"
	"eproxy/internal/datapath"
	"eproxy/internal/lograte"
	"eproxy/internal/netdev"
	"eproxy/internal/podgro"
	"eproxy/internal/podns"
	"eproxy/internal/reach"
)

// attacher is what the view has done to interfaces: datapath.Datapath.
type attacher interface {
	AttachDevice(name, xdp string) (mode string, err error)
	AttachXDP(name string) (added bool, err error)
	Attached(ifindex int) bool
	ForgetGone() (names []string, errs []error)
}

// groSwitch switches GRO at the far ends of interfaces: podgro.Switch.
type groSwitch interface {
	On(ifindex int) error
	Has(ifindex int) bool
	Keep(wanted func(ifindex int) bool) (restored []int, errs []error)
}

var (
	_ attacher  = (*datapath.Datapath)(nil)
	_ groSwitch = (*podgro.Switch)(nil)
)

// View is this node's network.
type View struct {
	path    attacher
	gro     groSwitch
	idle    *uint32 // of the settings: no pod takes XDP redirects
	log     *slog.Logger
	often   *lograte.Logger
	changed chan struct{} // the network is to be looked at

	choose func(name, choice string) (used, why string) // netdev.ChooseXDP

	node    reach.Node
	podsGRO bool              // GRO is to be switched on at the pods' ends
	devices map[string]device // interfaces that devices arrive on
	noXDP   bool              // XDP was to be attached to them, and could not
	refused map[string]string // those of them that it could not be attached to, with the error that was logged
}

// device is an interface that devices arrive on.
type device struct {
	choice string // the configuration's, of XDP
	used   string // what is used of it: auto or on where XDP comes with the first pod that takes redirects
}

// New makes the view of a loaded datapath. idle is xdp_idle of its settings.
func New(path *datapath.Datapath, gro *podgro.Switch, idle *uint32, log *slog.Logger, often *lograte.Logger) *View {
	return &View{path: path, gro: gro, idle: idle, log: log, often: often, changed: make(chan struct{}, 1),
		choose: netdev.ChooseXDP, devices: make(map[string]device), refused: make(map[string]string)}
}

// Look has the network looked at soon.
func (v *View) Look() {
	select {
	case v.changed <- struct{}{}:
	default: // it will be
	}
}

// Changed is sent to when the network is to be looked at.
func (v *View) Changed() <-chan struct{} { return v.changed }

// Configure follows a configuration that is to be in force.
func (v *View) Configure(cfg *config.Config) {
	v.node = reach.Node{Interfaces: cfg.Interfaces, XDP: v.mayXDP()}
	v.podsGRO = cfg.PodsGRO
}

// Node is what it looks from.
func (v *View) Node() reach.Node { return v.node }

// Reach finds out how an address is reached now.
func (v *View) Reach(a netip.Addr) reach.Path { return v.node.To(a) }

// AttachDevice attaches the device-side programs to a node interface, and again
// whenever that is made anew. xdp is the configuration's choice: auto, on,
// native, generic or off. It returns what is used of it, and why not more of it.
func (v *View) AttachDevice(name, xdp string) (used, why string, err error) {
	used, why = v.choose(name, xdp)
	v.devices[name] = device{xdp, used}
	used, err = v.path.AttachDevice(name, used)
	return used, why, err
}

// ForgetGone gives up the links whose interfaces are gone, and says which these are.
func (v *View) ForgetGone() (names []string, errs []error) { return v.path.ForgetGone() }

// AttachAgain attaches to the interfaces that devices arrive on and that were made
// again, and says whether there are any: XDP is to be settled anew then.
func (v *View) AttachAgain() (again bool, errs []error) {
	for name, d := range v.devices {
		l, err := netlink.LinkByName(name)
		if err != nil || v.path.Attached(l.Attrs().Index) {
			continue // gone, or the one that it was
		}
		used, _, err := v.AttachDevice(name, d.choice) // perhaps of another driver
		if err != nil {
			errs = append(errs, err)
			continue
		}
		v.log.Info("attached again", "interface", name, "xdp", used)
		v.noXDP, again = false, true
		clear(v.refused)
	}
	if again {
		v.node.XDP = v.mayXDP() // the next look finds out which pods that concerns
	}
	return again, errs
}

// mayXDP says whether messages may be taken at XDP, on some interface that devices
// arrive on.
func (v *View) mayXDP() bool {
	for _, d := range v.devices {
		if d.used != "off" {
			return !v.noXDP
		}
	}
	return false
}

// SettleXDP lets the XDP program work while some pod in service receives redirects: wanted.
// With the choices auto and on it is attached with the first such pod: on an interface with an XDP
// program every packet costs more (veth copies most of them to make room for it), for which
// there is nothing to be had while all pods are reached by TC. It stays from then on,
// since on some cards the link goes down for a moment whenever one is attached or
// detached, and it is the pods that decide: one whose owner switches GRO on and off must
// not be able to cut the devices off again and again.
func (v *View) SettleXDP(wanted bool) {
	idle := uint32(1)
	if wanted {
		idle = 0
		v.attachXDP()
	}
	atomic.StoreUint32(v.idle, idle)
}

// attachXDP attaches XDP where the choice is auto or on. Where that is not possible messages are
// taken at TC; where it is possible nowhere, for as long as no interface is made
// anew.
func (v *View) attachXDP() {
	any := false
	for name, d := range v.devices {
		if d.used != "auto" && d.used != "on" {
			any = any || d.used != "off"
			continue
		}
		added, err := v.path.AttachXDP(name)
		switch {
		case err != nil:
			if v.refused[name] != err.Error() { // it is tried again whenever pods have changed
				v.refused[name] = err.Error()
				v.log.Warn("no native XDP here, messages are taken at TC", "interface", name, "error", err)
			}
			continue
		case added:
			v.log.Info("attached", "interface", name, "xdp", "native", "because", "a pod takes XDP redirects")
		}
		delete(v.refused, name)
		any = true
	}
	if !any && v.node.XDP {
		v.noXDP, v.node.XDP = true, false
		v.Look() // pods are reached in another way then
	}
}

// Improve is the path to a pod when GRO at its end is as the configuration wants it, and how
// the network has it. lacks says that this failed because the pod's network namespace was
// not found.
func (v *View) Improve(pod netip.Addr, path reach.Path) (served, found reach.Path, lacks bool) {
	switch {
	case path.GRO && v.podsGRO:
		if err := v.gro.On(path.Ifindex); err != nil {
			return path.WithoutGRO(err), path, errors.Is(err, podns.ErrNotFound)
		}
		now := v.node.To(pod)
		if now.Ifindex != path.Ifindex {
			return path, path, false // it has moved, which will be found
		}
		return now, now, false
	case path.Way == reach.XDP && !v.podsGRO && v.gro.Has(path.Ifindex):
		served = path
		served.Way = reach.TC // before KeepGRO switches it off: a redirect after that would be lost
		served.Reason = fmt.Sprintf("GRO is switched off again at the far end of %s (pods_gro)", path.Interface)
		return served, path, false
	}
	return path, path, false
}

// LosesGRO says whether GRO at the far end of an interface is about to be restored although
// pods are behind it.
func (v *View) LosesGRO(ifindex int) bool { return !v.podsGRO && v.gro.Has(ifindex) }

// KeepGRO restores GRO at the ends of pods that are gone, or of all if the configuration
// wants it no more; used are the interfaces of those in service. The programs must not
// redirect there any more. It returns the interfaces where it is as it was.
func (v *View) KeepGRO(used map[int]bool) (restored []int) {
	restored, errs := v.gro.Keep(func(ifindex int) bool { return v.podsGRO && used[ifindex] })
	for _, err := range errs {
		v.often.Warn("restoring a pod's interface", err.Error(), "error", err)
	}
	return restored
}
