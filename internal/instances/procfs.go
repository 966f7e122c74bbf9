package instances

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// statusWord reads a hexadecimal number of /proc/PID/status.
func statusWord(pid int, key string) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && name == key {
			return strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		}
	}
	return 0, fmt.Errorf("no %s", key)
}

// States of TCP sockets in /proc/net/tcp (include/net/tcp_states.h of the kernel).
const (
	tcpEstablished = 1
	tcpListen      = 10
)

// socket is a line of /proc/net/tcp or tcp6.
type socket struct {
	local netip.AddrPort
	state int
}

// sockets are the TCP sockets of a process's network namespace.
func sockets(pid int) (out []socket, err error) {
	for _, family := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, family))
		if err != nil {
			return nil, err
		}
		out = append(out, parseSockets(b)...)
	}
	return out, nil
}

// parseSockets reads the sockets of a file; lines that are none are left out.
func parseSockets(b []byte) (out []socket) {
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 4 {
			continue
		}
		local, ok := parseLocal(f[1])
		state, err := strconv.ParseUint(f[3], 16, 8)
		if ok && err == nil {
			out = append(out, socket{local, int(state)})
		}
	}
	return out
}

// parseLocal reads an address in words of the machine's byte order, and a port.
func parseLocal(s string) (netip.AddrPort, bool) {
	address, port, ok := strings.Cut(s, ":")
	words, err := hex.DecodeString(address)
	n, bad := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || bad != nil || len(words)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(words); i += 4 { // %08X of the word as the machine has it
		binary.NativeEndian.PutUint32(words[i:], binary.BigEndian.Uint32(words[i:]))
	}
	a, ok := netip.AddrFromSlice(words)
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), ok
}

// listening says what is wrong with where a process listens that should on a port.
func listening(all []socket, port uint16) string {
	var others []string
	for _, s := range all {
		if s.state != tcpListen {
			continue
		}
		if s.local.Port() != port {
			others = append(others, strconv.Itoa(int(s.local.Port())))
		} else if s.local.Addr().IsLoopback() {
			return fmt.Sprintf("it listens on %s, which only itself can reach: it must on 0.0.0.0:%d", s.local, port)
		}
	}
	if len(others) == 0 {
		return fmt.Sprintf("it does not listen on port %d (PORT in its environment)", port)
	}
	slices.Sort(others)
	return fmt.Sprintf("it listens on port %s, not on %d (PORT in its environment)", strings.Join(slices.Compact(others), ", "), port)
}

// connected says whether there are connections to a port. Those that their client has closed (CLOSE-WAIT, RFC 9293 section 3.3.2) do
// not count: where a server accepts none, or closes none, they stay for ever.
func connected(all []socket, port uint16) bool {
	return slices.ContainsFunc(all, func(s socket) bool { return s.state == tcpEstablished && s.local.Port() == port })
}
