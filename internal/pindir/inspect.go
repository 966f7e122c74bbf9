package pindir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
)

// State of a pin directory that may be used.
type State int

// The states.
const (
	Absent State = iota // no such directory
	Empty               // a directory of a bpf file system that holds nothing
	Ours                // eproxy's pins
)

// Info is what Inspect finds.
type Info struct {
	State State
	// Version is the ABI version of the pins; 0 if they are of the version before
	// the mark.
	Version uint32
}

// ErrForeign is what errors of Inspect and Remove wrap: the directory is not
// eproxy's, and was not touched.
var ErrForeign = errors.New("not eproxy's pins, left untouched")

// bpfFSMagic is the f_type of bpffs (include/uapi/linux/magic.h).
const bpfFSMagic = unix.BPF_FS_MAGIC

// subdirs of a pin directory.
var subdirs = []string{"links", "maps", "progs"}

// markName is the pinned map that makes a directory eproxy's.
const markName = "mark"

// Inspect says what a directory is. It changes nothing. The error wraps
// ErrForeign if it is something that eproxy has not made.
func Inspect(dir string) (Info, error) {
	dir = filepath.Clean(dir)
	st, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return Info{State: Absent}, nil
	}
	if err != nil {
		return Info{}, fmt.Errorf("look at pins: %w", err)
	}
	if err := checkDirectory(dir, st); err != nil {
		return Info{}, err
	}
	names, err := list(dir)
	if err != nil {
		return Info{}, err
	}
	if len(names) == 0 {
		return Info{State: Empty}, nil
	}
	if slices.Contains(names, markName) {
		return inspectMarked(dir, names, deviceOf(st))
	}
	if err := checkUnmarked(dir, names, deviceOf(st)); err != nil {
		return Info{}, err
	}
	return Info{State: Ours}, nil
}

// checkDirectory refuses what cannot be a pin directory whatever it holds.
func checkDirectory(dir string, st fs.FileInfo) error {
	switch {
	case st.Mode()&fs.ModeSymlink != 0:
		to, _ := os.Readlink(dir)
		return foreign(dir, "it is a symbolic link to %s", to)
	case !st.IsDir():
		return foreign(dir, "it is no directory")
	}
	var f unix.Statfs_t
	if err := unix.Statfs(dir, &f); err != nil {
		return fmt.Errorf("look at pins: %w", err)
	}
	if f.Type != bpfFSMagic {
		return foreign(dir, "it is an ordinary directory on %s, and pins are on a bpf file system", fsName(f.Type))
	}
	var up unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, ".."), &up); err == nil && up.Dev != deviceOf(st) {
		return foreign(dir, "it is the root of the bpf file system, and pins need a directory of their own below it")
	}
	return nil
}

func foreign(dir, format string, args ...any) error {
	return fmt.Errorf("%s: %w: %s", dir, ErrForeign, fmt.Sprintf(format, args...))
}

func deviceOf(st fs.FileInfo) uint64 { return st.Sys().(*syscall.Stat_t).Dev }

// inspectMarked reads the mark and makes sure that nothing else is there but
// pins.
func inspectMarked(dir string, names []string, dev uint64) (Info, error) {
	for _, n := range names {
		if n != markName && !slices.Contains(subdirs, n) {
			return Info{}, foreign(dir, "beside the mark it holds %s", some([]string{n}))
		}
	}
	version, err := readMark(dir)
	if err != nil {
		return Info{}, err
	}
	for _, sub := range subdirs {
		if _, err := pinsIn(dir, sub, dev); err != nil {
			return Info{}, err
		}
	}
	return Info{State: Ours, Version: version}, nil
}

// readMark is the ABI version that the mark names.
func readMark(dir string) (uint32, error) {
	name := filepath.Join(dir, markName)
	if st, err := os.Lstat(name); err != nil || !st.Mode().IsRegular() {
		return 0, foreign(dir, "its mark is no pinned map")
	}
	m, err := ebpf.LoadPinnedMap(name, &ebpf.LoadPinOptions{ReadOnly: true})
	if errors.Is(err, fs.ErrPermission) {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	if err != nil {
		return 0, foreign(dir, "its mark is no pinned map")
	}
	defer m.Close()
	var mark bpf.EproxyPinMark
	if err := m.Lookup(uint32(0), &mark); err != nil || mark.Magic != abi.MarkMagic {
		return 0, foreign(dir, "its mark is another program's")
	}
	return mark.Version, nil
}

// Names that the version before the mark pinned; nothing is to be added here.
var (
	unmarkedMaps = []string{"conns", "devices", "edges", "events", "flows", "function_names", "functions", "grants", "listeners",
		"nodes", "pod_counters", "pod_socks", "pods", "reasons", "requests", "route_counters", "route_names", "routes", "settings", "slots"}
	unmarkedPrograms = []string{"tc_device_in", "tc_device_out", "tc_pod_in", "tc_pod_out", "xdp_device"}
)

// checkUnmarked makes sure that a directory without a mark holds exactly what
// the version before the mark pinned.
func checkUnmarked(dir string, names []string, dev uint64) error {
	if !slices.Equal(names, subdirs) {
		return foreign(dir, "it has no mark and holds %s", some(names))
	}
	for _, kind := range []struct {
		sub  string
		want []string
	}{{"maps", unmarkedMaps}, {"progs", unmarkedPrograms}} {
		pins, err := pinsIn(dir, kind.sub, dev)
		if err != nil {
			return err
		}
		if !slices.Equal(pins, kind.want) {
			return foreign(dir, "it has no mark, and its %s are not those that eproxy pinned before there were marks: %s", kind.sub, some(pins))
		}
	}
	links, err := pinsIn(dir, "links", dev)
	if err != nil {
		return err
	}
	for _, l := range links {
		if prog, _, _ := strings.Cut(l, "-"); !slices.Contains(unmarkedPrograms, prog) {
			return foreign(dir, "it has no mark and holds %s", some([]string{"links/" + l}))
		}
	}
	return nil
}

// pinsIn lists the pins in a sub-directory, sorted. One that is missing is
// empty; anything but pins in it is an error.
func pinsIn(dir, sub string, dev uint64) ([]string, error) {
	path := filepath.Join(dir, sub)
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at pins: %w", err)
	}
	if !st.IsDir() || deviceOf(st) != dev {
		return nil, foreign(dir, "its %s is no directory of the same file system", sub)
	}
	names, err := list(path)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if st, err := os.Lstat(filepath.Join(path, n)); err != nil || !st.Mode().IsRegular() {
			return nil, foreign(dir, "%s/%s is no pinned object", sub, n)
		}
	}
	return names, nil
}

// list is the names in a directory, sorted.
func list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list pins: %w", err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// some is a few of the names, quoted.
func some(names []string) string {
	const most = 3
	quoted := make([]string, 0, most)
	for _, n := range names[:min(len(names), most)] {
		quoted = append(quoted, fmt.Sprintf("%q", n))
	}
	s := strings.Join(quoted, ", ")
	switch {
	case len(names) > most:
		s += fmt.Sprintf(" and %d more", len(names)-most)
	case len(names) == 0:
		s = "nothing"
	}
	return s
}

// fsName is the name of a file system by its magic number (linux/magic.h).
func fsName(magic int64) string {
	names := map[int64]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs",
		unix.OVERLAYFS_SUPER_MAGIC: "overlayfs", unix.SYSFS_MAGIC: "sysfs", unix.PROC_SUPER_MAGIC: "proc", unix.NFS_SUPER_MAGIC: "nfs",
	}
	if n := names[magic]; n != "" {
		return n
	}
	return fmt.Sprintf("a file system of type %#x", magic)
}
