// Package privilege knows which capabilities loading and attaching needs.
package privilege

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// needed are the capabilities that the loader cannot do without (capabilities(7)),
// each with what for. Nothing more is: memory for maps is accounted to the
// cgroup, not to a resource limit, since Linux 5.11.
var needed = []struct {
	name string
	bit  uint
}{
	{"CAP_BPF", unix.CAP_BPF},             // maps and programs
	{"CAP_PERFMON", unix.CAP_PERFMON},     // what the verifier lets only such programs do with the stack
	{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN}, // attach them, socket maps, end sockets of a loader that died
	{"CAP_NET_RAW", unix.CAP_NET_RAW},     // send frames, for what a program cannot send
}

// Check returns an error that names the capabilities that this process lacks.
func Check() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	if missing := lacking(uint64(data[1].Effective)<<32 | uint64(data[0].Effective)); len(missing) > 0 {
		return fmt.Errorf("needs root, or at least the capabilities %s: %s missing", strings.Join(Needed(), ", "), strings.Join(missing, ", "))
	}
	return nil
}

// Needed are the names of the capabilities that loading and attaching needs.
func Needed() []string { return lacking(0) }

// lacking are the names of those that are not in a set of bits.
func lacking(set uint64) []string {
	var names []string
	for _, c := range needed {
		if set&(1<<c.bit) == 0 {
			names = append(names, c.name)
		}
	}
	return names
}
