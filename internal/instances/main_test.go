package instances

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Arguments by which this program is what a test needs of another.
const (
	asFunction = "as-function" // a function in Go
	asLoader   = "as-loader"   // a loader that is to be killed
)

// alone says that the tests run in a network namespace of their own.
const alone = "EPROXY_TEST_ALONE"

func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == asFunction:
		_ = http.ListenAndServe(":"+os.Getenv("PORT"), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})) //nolint:gosec // of a test
		return
	case len(os.Args) > 1 && os.Args[1] == asLoader:
		beLoader(os.Args[2], os.Args[3:])
		return
	case os.Getenv(alone) != "":
		removeOfKilled()
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = append(os.Environ(), alone+"=1"), os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// elsewhere is the other machine's namespace.
var elsewhere netns.NsHandle

// uplink makes this machine, as the tests see it, one that passes packets on, and joins
// it to another, which says who asks. It returns where that listens.
func uplink(t *testing.T) netip.AddrPort {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	var server net.Listener
	onThread(t, func() error {
		var err error
		if elsewhere, err = netns.New(); err != nil { // and the thread is in it
			return err
		}
		server, err = net.Listen("tcp4", ":80")
		return err
	})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { fmt.Fprint(w, q.RemoteAddr) }), ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(server) }()
	far, err := netlink.NewHandleAt(elsewhere)
	must(err)
	near, err := netlink.NewHandle()
	must(err)
	veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "eth0", PeerNamespace: netlink.NsFd(elsewhere)}
	veth.Name = "uplink"
	must(near.LinkAdd(veth))
	t.Cleanup(func() {
		must(near.LinkDel(veth))
		srv.Close()
		far.Close()
		near.Close()
		elsewhere.Close()
	})
	for _, x := range []struct {
		h             *netlink.Handle
		name, address string
	}{{near, "lo", ""}, {near, "uplink", "192.0.2.1/24"}, {far, "eth0", "192.0.2.2/24"}} {
		l, err := x.h.LinkByName(x.name)
		must(err)
		if x.address != "" {
			a, err := netlink.ParseAddr(x.address)
			must(err)
			must(x.h.AddrAdd(l, a))
		}
		must(x.h.LinkSetUp(l))
	}
	return netip.MustParseAddrPort("192.0.2.2:80")
}

// onThread runs f on a thread that ends with it.
func onThread(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// listenHere listens at a port of this machine.
func listenHere(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// dup is a descriptor of its own for the same file.
func dup(t *testing.T, fd int) int {
	t.Helper()
	own, err := syscall.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	return own
}
