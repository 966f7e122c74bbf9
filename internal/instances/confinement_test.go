package instances

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestConfinement: what an instance may not do.
func TestConfinement(t *testing.T) {
	outside := uplink(t)
	w := newWorld(t)
	listener := serveHere(t)
	leak, err := syscall.Open("/etc/hostname", syscall.O_RDONLY, 0) // without O_CLOEXEC
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(leak)
	stopNeighbour := w.run("neighbour", says("1"))
	there := w.found("neighbour", 1)[0]
	connect := func(a netip.AddrPort) string {
		return fmt.Sprintf("socket.create_connection(('%s', %d), 1)", a.Addr(), a.Port())
	}
	status := func(key string) string {
		return "[l.split()[1] for l in open('/proc/self/status') if l.startswith('" + key + ":')][0]"
	}
	for name, c := range map[string]struct{ expression, want string }{
		"user":          {"(os.getuid(), os.geteuid(), os.getgid(), os.getgroups())", "(65534, 65534, 65534, [65534])"},
		"capabilities":  {status("CapEff") + "+" + status("CapBnd") + "+" + status("CapPrm"), strings.Repeat("0", 48)},
		"no new":        {status("NoNewPrivs"), "1"},
		"set-user-ID":   {"subprocess.run(['su', '-c', 'id'], capture_output=True, stdin=subprocess.DEVNULL).returncode != 0", "True"},
		"processes":     {"[p for p in os.listdir('/proc') if p.isdigit()]", "['1']"},
		"environment":   {"sorted(set(os.environ) - {'LC_CTYPE'})", "['HOME', 'PATH', 'PORT']"},
		"files":         {"sorted(os.listdir('/proc/self/fd'))", "['0', '1', '2', '3', '4', '5']"},
		"write":         {"open('/etc/x', 'w')", "PermissionError(13, 'Permission denied')"},
		"other":         {connect(there), "TimeoutError('timed out')"},
		"this machine":  {connect(listener), "TimeoutError('timed out')"},
		"elsewhere":     {"urllib.request.urlopen('http://" + outside.String() + "').read().decode().split(':')[0]", "192.0.2.1"},
		"raw packets":   {"socket.socket(socket.AF_PACKET, socket.SOCK_RAW)", "PermissionError(1, 'Operation not permitted')"},
		"own interface": {"subprocess.run(['ip', 'link', 'set', 'eth0', 'down'], capture_output=True).returncode != 0", "True"},
	} {
		run := says(c.expression)
		run.Outgoing = true
		stop := w.run(name, run)
		if got := get(t, w.found(name, 1)[0]); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		stop()
	}
	alone := says(connect(outside))
	stop := w.run("alone", alone)
	if got := get(t, w.found("alone", 1)[0]); !strings.Contains(got, "unreachable") {
		t.Errorf("without a network: %s", got)
	}
	stop()
	file := fmt.Sprintf("/tmp/%s", w.id)
	ro := says("(open('" + file + "', 'w').write('x'), open('/dev/shm/x', 'w').write('x'), os.path.exists('/var/tmp/x'), os.statvfs('/').f_flag & os.ST_RDONLY)")
	ro.ReadOnly = true
	stop = w.run("read-only", ro)
	if got := get(t, w.found("read-only", 1)[0]); got != "(1, 1, False, 1)" {
		t.Errorf("read-only: %s", got)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("its /tmp is this machine's")
	}
	stop()
	stopNeighbour()
	w.close()
}

// TestAdministeredNetwork: not even who administers an instance's network reaches others by it, nor this machine from another address.
func TestAdministeredNetwork(t *testing.T) {
	outside := uplink(t)
	w := newWorld(t)
	stop := w.run("f", says("1"))
	pod := w.found("f", 1)[0]
	gateway := w.r.network.gateway()
	within := func(script string) error {
		cmd := exec.Command("nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", w.r.Instances()[0].PID), "bash", "-c", script)
		out, err := cmd.CombinedOutput()
		t.Logf("%s: %s%v", script, out, err)
		return err
	}
	if err := within(fmt.Sprintf("ip route add default via %s dev eth0 src %s", gateway, pod.Addr())); err != nil {
		t.Fatal(err)
	}
	if within(fmt.Sprintf("timeout 1 bash -c 'exec 4<>/dev/tcp/%s/%d'", outside.Addr(), outside.Port())) == nil {
		t.Error("it reaches another machine")
	}
	link := w.r.network.link(1)
	for _, name := range []string{"all", link} { // as kernels have it that nobody has told more
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/rp_filter", []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
	}
	here, err := net.ListenPacket("udp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	_, port, _ := net.SplitHostPort(here.LocalAddr().String())
	taken := func() uint64 {
		l, err := netlink.LinkByName(link)
		if err != nil {
			t.Fatal(err)
		}
		return l.Attrs().Statistics.RxPackets
	}
	before := taken()
	if err := within(fmt.Sprintf("ip addr add 203.0.113.7/32 dev eth0 && ip route replace %s dev eth0 src 203.0.113.7 && echo foreign > /dev/udp/%s/%s", gateway, gateway, port)); err != nil {
		t.Fatal(err)
	}
	until(t, "packet", func() bool { return taken() != before })
	c, err := net.Dial("udp4", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("own")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 16)
	if n, from, err := here.ReadFrom(b); err != nil || string(b[:n]) != "own" {
		t.Errorf("%q from %v, %v", b[:n], from, err)
	}
	stop()
	w.close()
}

// TestOnlyThisMachineConnects: nobody else opens a connection to an instance.
func TestOnlyThisMachineConnects(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	run := says("1")
	run.Outgoing = true
	stop := w.run("f", run)
	pod := w.found("f", 1)[0]
	if got := get(t, pod); got != "1" {
		t.Errorf("this machine gets %q", got)
	}
	enter := exec.Command("nsenter", "--net=/proc/self/fd/3", "bash", "-c",
		fmt.Sprintf("ip route add %s via 192.0.2.1 && ! timeout 1 bash -c 'exec 4<>/dev/tcp/%s/%d'", testAddresses, pod.Addr(), pod.Port()))
	enter.ExtraFiles = []*os.File{os.NewFile(uintptr(dup(t, int(elsewhere))), "namespace")}
	if out, err := enter.CombinedOutput(); err != nil {
		t.Errorf("it was reached: %v %s", err, out)
	}
	stop()
	w.close()
}
