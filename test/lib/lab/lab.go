// Package lab builds the network that tests, benchmarks and the demo run in:
// namespaces for devices, a node and two pods, joined by veth pairs.
package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Role is one host of the lab.
type Role string

// The hosts.
const (
	Dev  Role = "dev"  // where the devices are
	Node Role = "node" // runs eproxy: eth0 towards the devices, pod0 and pod1
	Pod0 Role = "pod0"
	Pod1 Role = "pod1"
	Wire Role = "wire" // NewWired, NewRouted: between the others
)

// Roles are all hosts.
var Roles = []Role{Dev, Node, Pod0, Pod1}

// Addresses of the hosts that are connected to.
var (
	NodeV4 = netip.MustParseAddr("10.88.0.1")
	NodeV6 = netip.MustParseAddr("fd88::1")
	podV4  = map[Role]netip.Addr{Pod0: netip.MustParseAddr("10.88.1.2"), Pod1: netip.MustParseAddr("10.88.2.2")}
	podV6  = map[Role]netip.Addr{Pod0: netip.MustParseAddr("fd88:1::2"), Pod1: netip.MustParseAddr("fd88:2::2")}
)

// PodAddr is a pod's address.
func PodAddr(r Role, ipv6 bool) netip.Addr {
	if ipv6 {
		return podV6[r]
	}
	return podV4[r]
}

// NodeAddr is the node's address towards the devices.
func NodeAddr(ipv6 bool) netip.Addr {
	if ipv6 {
		return NodeV6
	}
	return NodeV4
}

// Lab is one set of namespaces.
type Lab struct {
	id      string
	handles map[Role]netns.NsHandle
	wired   []Role // whose links have a cable
	routed  Role   // behind the router; "": there is none
	pathMTU int    // of the router towards it
	cni     bool   // GRO stays off at the pods' ends
}

const prefix = "ep-"

// labs counts those of this process, which may have several at a time.
var labs atomic.Int64

// New builds the namespaces and removes those of processes that are gone. It
// needs root.
func New() (*Lab, error) { return newLab(&Lab{}) }

// NewCNI is New with pods as CNI plugins make them: GRO is off at their ends, so that
// XDP redirects do not reach them.
func NewCNI() (*Lab, error) { return newLab(&Lab{cni: true}) }

// NewWired is New with a cable in the links of some hosts (none named: in every
// link) that somebody must carry frames over: between the interfaces that
// WireEnds names, in the namespace Wire.
func NewWired(hosts ...Role) (*Lab, error) {
	if len(hosts) == 0 {
		hosts = []Role{Dev, Pod0, Pod1}
	}
	return newLab(&Lab{wired: hosts})
}

// NewRouted is New with a router, in the namespace Wire, between the node and
// another host. It passes no packet to that host that is longer than mtu bytes, and
// says so by ICMP.
func NewRouted(to Role, mtu int) (*Lab, error) { return newLab(&Lab{routed: to, pathMTU: mtu}) }

// WireEnds are the interfaces, in the namespace Wire, of the cable between the
// node and another host: the host's end and the node's.
func WireEnds(r Role) (host, node string) { return string(r) + "-host", string(r) + "-node" }

// newLab builds a lab of a kind.
func newLab(l *Lab) (*Lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("making network namespaces needs root")
	}
	if err := mountBPFFS(); err != nil {
		return nil, err
	}
	sweep()
	l.id = fmt.Sprintf("%s%d-%d-", prefix, os.Getpid(), labs.Add(1))
	l.handles = make(map[Role]netns.NsHandle)
	if err := l.build(); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Name is the name of a host's namespace.
func (l *Lab) Name(r Role) string { return l.id + string(r) }

// Path is the file that stands for a host's namespace.
func (l *Lab) Path(r Role) string { return filepath.Join(netnsDir, l.Name(r)) }

// Close removes all namespaces, and with them their interfaces.
func (l *Lab) Close() {
	for _, r := range append([]Role{Wire}, Roles...) {
		if h, ok := l.handles[r]; ok {
			_ = h.Close()
		}
		_ = netns.DeleteNamed(l.Name(r))
	}
	// a loader leaves its lock, and its socket when it is killed
	left, _ := filepath.Glob("/run/eproxy/" + filepath.Base(l.BPFFS()) + ".*")
	for _, f := range left {
		_ = os.Remove(f)
	}
}

func (l *Lab) build() error {
	roles := Roles
	if len(l.wired) > 0 || l.routed != "" {
		roles = append([]Role{Wire}, Roles...)
	}
	for _, r := range roles {
		h, err := l.makeNamespace(r)
		if err != nil {
			return fmt.Errorf("make namespace %s: %w", l.Name(r), err)
		}
		l.handles[r] = h
	}
	for _, host := range []Role{Dev, Pod0, Pod1} {
		if err := l.Join(host); err != nil {
			return err
		}
	}
	if err := l.forward(Node); err != nil {
		return err
	}
	if l.routed != "" {
		return l.route()
	}
	return nil
}

// forward makes a router of a host.
func (l *Lab) forward(r Role) error {
	err := l.Do(r, func() error {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
			return err
		}
		return os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0)
	})
	if err != nil {
		return fmt.Errorf("switch forwarding on: %w", err)
	}
	return nil
}

// ends are the two ends of the link between the node and a host: interfaces and
// addresses, and the host's gateways.
var ends = map[Role]struct {
	node      string
	nodeAddrs []string
	hostAddrs []string
	gateways  []string
}{
	Dev:  {"eth0", []string{"10.88.0.1/24", "fd88::1/64"}, []string{"10.88.0.2/24", "fd88::2/64"}, []string{"10.88.0.1", "fd88::1"}},
	Pod0: {"pod0", []string{"10.88.1.1/24", "fd88:1::1/64"}, []string{"10.88.1.2/24", "fd88:1::2/64"}, []string{"10.88.1.1", "fd88:1::1"}},
	Pod1: {"pod1", []string{"10.88.2.1/24", "fd88:2::1/64"}, []string{"10.88.2.2/24", "fd88:2::2/64"}, []string{"10.88.2.1", "fd88:2::1"}},
}

// Join links a host to the node: at first, and again after Cut, by interfaces
// that are new but for their names and addresses.
func (l *Lab) Join(host Role) error {
	e := ends[host]
	if err := l.link(Node, e.node, host, "eth0"); err != nil {
		return err
	}
	if err := l.configure(Node, e.node, e.nodeAddrs); err != nil {
		return err
	}
	if err := l.configure(host, "eth0", e.hostAddrs); err != nil {
		return err
	}
	if err := l.defaultRoutes(host, e.gateways); err != nil {
		return err
	}
	if host != Dev && l.cni {
		return nil
	}
	// A real wire carries complete checksums, and XDP has to see them. A veth takes
	// XDP redirects only if its far end polls, which GRO makes it do.
	feature, on, what := uint32(ethtoolSGRO), true, "switch GRO on"
	if host == Dev {
		feature, on, what = ethtoolSTXCSUM, false, "switch checksum offload off"
	}
	if err := l.Do(host, func() error { return setFeature("eth0", feature, on) }); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Cut deletes the interfaces between the node and a host; not of a wired lab.
func (l *Lab) Cut(host Role) error {
	h, err := netlink.NewHandleAt(l.handles[Node])
	if err != nil {
		return fmt.Errorf("netlink in %s: %w", Node, err)
	}
	defer h.Close()
	link, err := h.LinkByName(ends[host].node)
	if err != nil {
		return fmt.Errorf("interface towards %s: %w", host, err)
	}
	if err := h.LinkDel(link); err != nil {
		return fmt.Errorf("cut %s off: %w", host, err)
	}
	return nil
}

func (l *Lab) makeNamespace(r Role) (netns.NsHandle, error) {
	var h netns.NsHandle
	err := onThread(func() error {
		var err error
		h, err = netns.NewNamed(l.Name(r))
		if err != nil {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	return h, err
}

// link joins two hosts, one of which is the node, by a veth pair or by a cable.
func (l *Lab) link(a Role, aName string, b Role, bName string) error {
	other := a
	if a == Node {
		other = b
	}
	if !slices.Contains(l.wired, other) && other != l.routed {
		return l.join(a, aName, b, bName)
	}
	host, node := WireEnds(other)
	aEnd, bEnd := host, node
	if a == Node {
		aEnd, bEnd = node, host
	}
	if err := l.join(a, aName, Wire, aEnd); err != nil {
		return err
	}
	if err := l.join(Wire, bEnd, b, bName); err != nil {
		return err
	}
	for _, end := range []struct {
		r    Role
		name string
	}{{Wire, host}, {Wire, node}, {a, aName}, {b, bName}} {
		err := l.Do(end.r, func() error {
			for _, f := range []uint32{ethtoolSTXCSUM, ethtoolSTSO, ethtoolSGSO} {
				if err := setFeature(end.name, f, false); err != nil {
					return err
				}
			}
			if end.r == Wire { // it must not answer for itself, and must take XDP redirects
				if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+end.name+"/disable_ipv6", []byte("1"), 0); err != nil {
					return err
				}
				return setFeature(end.name, ethtoolSGRO, true)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("offloads of %s: %w", end.name, err)
		}
	}
	for _, name := range []string{host, node} {
		if err := l.configure(Wire, name, nil); err != nil {
			return err
		}
	}
	for _, r := range []Role{other, Node} {
		if err := l.Do(r, capRTO); err != nil {
			return fmt.Errorf("limit TCP's backoff on %s: %w", r, err)
		}
	}
	return nil
}

// SetSysctl sets a parameter of a host, by its path under /proc/sys/net.
func (l *Lab) SetSysctl(r Role, name, value string) error {
	err := l.Do(r, func() error { return os.WriteFile(filepath.Join("/proc/sys/net", name), []byte(value), 0) })
	if err != nil {
		return fmt.Errorf("set %s of %s: %w", name, r, err)
	}
	return nil
}

// capRTO keeps TCP's exponential backoff to a few seconds. What has no
// timestamps learns nothing from what was sent twice (Karn's algorithm, RFC 6298
// section 3), so that on a cable that loses much the waits grow to minutes:
// nothing a test could tell from a stall. Kernels before 6.15 have no such limit.
func capRTO() error {
	err := os.WriteFile("/proc/sys/net/ipv4/tcp_rto_max_ms", []byte("5000"), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (l *Lab) join(a Role, aName string, b Role, bName string) error {
	veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: bName, PeerNamespace: netlink.NsFd(l.handles[b])}
	veth.Name = aName
	h, err := netlink.NewHandleAt(l.handles[a])
	if err != nil {
		return fmt.Errorf("netlink in %s: %w", a, err)
	}
	defer h.Close()
	if err := h.LinkAdd(veth); err != nil {
		return fmt.Errorf("join %s and %s: %w", a, b, err)
	}
	return nil
}

func (l *Lab) configure(r Role, name string, addrs []string) error {
	h, err := netlink.NewHandleAt(l.handles[r])
	if err != nil {
		return fmt.Errorf("netlink in %s: %w", r, err)
	}
	defer h.Close()
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s of %s: %w", name, r, err)
	}
	for _, s := range addrs {
		a, err := netlink.ParseAddr(s)
		if err != nil {
			return err
		}
		a.Flags = unix.IFA_F_NODAD // usable at once
		if err := h.AddrAdd(link, a); err != nil {
			return fmt.Errorf("address %s of %s: %w", s, r, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("interface %s of %s: %w", name, r, err)
	}
	return nil
}

func (l *Lab) defaultRoutes(r Role, gateways []string) error {
	h, err := netlink.NewHandleAt(l.handles[r])
	if err != nil {
		return fmt.Errorf("netlink in %s: %w", r, err)
	}
	defer h.Close()
	for _, gw := range gateways {
		if err := h.RouteAdd(&netlink.Route{Gw: net.ParseIP(gw)}); err != nil {
			return fmt.Errorf("default route of %s via %s: %w", r, gw, err)
		}
	}
	return nil
}

// mountBPFFS makes sure that there is a bpf file system.
func mountBPFFS() error {
	const dir = bpfDir
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err == nil && st.Type == unix.BPF_FS_MAGIC {
		return nil
	}
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		return fmt.Errorf("mount bpffs at %s: %w", dir, err)
	}
	return nil
}
