package netns

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/wire"
)

// tcpExt are the TcpExt counters of a host's kernel (/proc/net/netstat).
func tcpExt(t *testing.T, l *lab.Lab, r lab.Role) map[string]int {
	t.Helper()
	var b []byte
	if err := l.Do(r, func() (err error) {
		b, err = os.ReadFile("/proc/thread-self/net/netstat")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	var names []string
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "TcpExt:" {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		for i := 1; i < len(f) && i < len(names); i++ {
			var v int
			_, _ = fmt.Sscan(f[i], &v)
			n[names[i]] = v
		}
	}
	return n
}

// TestSelectiveAcknowledgements: devices of which segments get lost in both directions have
// SACK with the MQTT server, and neither end's kernel finds anything wrong with
// the blocks of the other: hardly any is thrown away, none looks as if bytes had been
// forgotten. Lost PUBACKs come again because blocks show it.
func TestSelectiveAcknowledgements(t *testing.T) {
	seed := seedOf(t)
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newWired(t, seed)
			r := newRecorder()
			r.serveGo(t, l.Lab, false, ok, nil)
			s := start(t, l.Lab, mode, podConfig(faultsConfig, false))
			c := rawConnect(t, l.Lab, "sack")
			var options byte
			sc, err := c.Conn.(*net.TCPConn).SyscallConn()
			if err == nil {
				err = sc.Control(func(fd uintptr) {
					info, e := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
					if e == nil {
						options = info.Options
					}
				})
			}
			const timestamps, sack = 1, 2 // TCPI_OPT_*, include/uapi/linux/tcp.h
			if err != nil || options&sack == 0 || options&timestamps != 0 {
				t.Errorf("options of the connection: %#x, want SACK without timestamps: %v", options, err)
			}
			l.set(wire.Faults{Drop: 0.03}, lab.Dev)
			before := s.counts()
			stats := map[lab.Role]map[string]int{lab.Dev: tcpExt(t, l.Lab, lab.Dev), lab.Node: tcpExt(t, l.Lab, lab.Node)}
			devices := newFleet(l.Lab, seed, 5, 400)
			began := time.Now()
			fleet(t, devices, 4*time.Minute)
			t.Logf("%v", time.Since(began))
			s.checkFleet(t, r, devices, before, true)
			after := s.counts()
			for _, role := range []lab.Role{lab.Dev, lab.Node} {
				now := tcpExt(t, l.Lab, role)
				d := func(name string) int { return now[name] - stats[role][name] }
				for _, name := range []string{"TCPSACKReneging", "TCPSACKDiscard", "TCPDSACKIgnoredOld", "TCPDSACKIgnoredNoUndo", "TCPDSACKRecv", "TCPDSACKOfoRecv",
					"TCPDSACKOldSent", "TCPDSACKUndo", "TCPTimeouts", "TCPLossProbes", "TCPFastRetrans", "TCPSackRecovery", "TCPSlowStartRetrans", "TCPSpuriousRTOs", "TCPOFOQueue", "TCPRetransFail"} {
					t.Logf("%v %s %d", role, name, d(name))
				}
				// an ACK that another processor's overtakes may bring a block that is old by then
				if d("TCPSACKReneging") > 0 || d("TCPSACKDiscard") > 5 {
					t.Errorf("%v: %d blocks thrown away, %d times bytes forgotten", role, d("TCPSACKDiscard"), d("TCPSACKReneging"))
				}
			}
			for _, k := range []string{"tc_device_in/puback_resent", "control/puback_resent", "tc_device_in/reinjected", "tc_pod_in/puback_handed", "tc_device_in/ahead", "tc_device_in/old_duplicate", "tc_device_in/tcp_flags", "tc_device_out/held", "tc_device_out/trimmed"} {
				t.Logf("%s %d", k, after[k]-before[k])
			}
			if after["tc_device_in/puback_resent"] == before["tc_device_in/puback_resent"] {
				t.Error("no PUBACK was sent again: the test tests nothing")
			}
		})
	}
}
