package instances

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// resolvFiles are where this machine's name servers may stand; the second is where
// systemd-resolved has those that stand behind its own.
var resolvFiles = []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"}

// resolv reads the first file that names a server which instances reach: one on this
// machine's loopback they do not, as it is theirs to them.
func resolv(files []string) []byte {
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if usable := reachable(b); usable != nil {
			return usable
		}
	}
	return nil
}

// reachable is a resolv.conf without servers that instances do not reach; nil: it has
// no other.
func reachable(b []byte) []byte {
	var out bytes.Buffer
	any := false
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "nameserver" {
			a, err := netip.ParseAddr(f[1])
			if err != nil || a.IsLoopback() || a.Is6() {
				continue
			}
			any = true
		}
		out.WriteString(line)
	}
	if !any {
		return nil
	}
	return out.Bytes()
}

// writeResolv writes the file that instances have as /etc/resolv.conf; empty: they have
// this machine's own.
func writeResolv(path string) (string, error) {
	text := resolv(resolvFiles)
	if text == nil {
		return "", nil
	}
	if err := os.WriteFile(path, text, 0o644); err != nil { //nolint:gosec // every instance's user reads it
		return "", fmt.Errorf("name servers of instances: %w", err)
	}
	return path, nil
}
