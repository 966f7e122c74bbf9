package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	netnsDir = "/var/run/netns"
	bpfDir   = "/sys/fs/bpf"
)

// sweep removes what labs left whose process is gone: their programs'
// processes, namespaces and pins.
func sweep() {
	for _, dir := range []string{netnsDir, bpfDir} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if owner, ok := ownerOf(e.Name()); !ok || alive(owner) {
				continue
			}
			if dir == netnsDir {
				killInside(filepath.Join(dir, e.Name()))
				_ = netns.DeleteNamed(e.Name())
				continue
			}
			_ = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
}

// ownerOf is the process that a lab's thing is named for.
func ownerOf(name string) (pid int, ok bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return 0, false
	}
	number, _, ok := strings.Cut(rest, "-")
	if !ok {
		return 0, false
	}
	pid, err := strconv.Atoi(number)
	return pid, err == nil && pid > 0
}

// alive says whether a process runs; one that only waits to be reaped does not.
func alive(pid int) bool {
	if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	return !bytes.HasPrefix(rest, []byte("Z"))
}

// killInside kills the processes in a namespace that a dead lab had made: it
// alone started any there.
func killInside(namespace string) {
	var want unix.Stat_t
	if unix.Stat(namespace, &want) != nil {
		return
	}
	procs, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return
	}
	for _, p := range procs {
		var got unix.Stat_t
		if unix.Stat(p, &got) != nil || got.Ino != want.Ino || got.Dev != want.Dev {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(p, "/")[2]); err == nil && pid != os.Getpid() {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}
