package instances

import (
	"bytes"
	"errors"
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
func writeResolv(path string, files []string) (string, error) {
	text := resolv(files)
	if text == nil {
		return "", nil
	}
	if now, err := os.ReadFile(path); err == nil && bytes.Equal(now, text) {
		return path, nil
	}
	if err := overwrite(path, text); err != nil {
		return "", fmt.Errorf("name servers of instances: %w", err)
	}
	return path, nil
}

// overwrite writes a file that stays the same one: instances have it mounted. Who reads it meanwhile does not find it empty.
func overwrite(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644) //nolint:gosec // every instance's user reads it
	if err != nil {
		return err
	}
	_, err = f.WriteAt(text, 0)
	return errors.Join(err, f.Truncate(int64(len(text))), f.Close())
}

// nameServers is the file of name servers for an instance that starts; empty: it has this machine's own.
func (r *Runtime) nameServers() string {
	r.preparing.Lock()
	defer r.preparing.Unlock()
	return r.resolv
}

// follow has instances know the name servers that this machine has now. Without any that they reach they keep those of before. r.preparing is held.
func (r *Runtime) follow() error {
	path, err := writeResolv(r.files, r.resolvers)
	if err == nil && path != "" {
		r.resolv = path
	}
	return err
}
