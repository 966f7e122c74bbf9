package dataplane

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// checkBPFFS makes sure that dir can hold pins.
func checkBPFFS(dir string) error {
	var st unix.Statfs_t
	parent := filepath.Dir(dir)
	if err := unix.Statfs(parent, &st); err != nil {
		return fmt.Errorf("bpffs %s: %w", parent, err)
	}
	if st.Type != unix.BPF_FS_MAGIC {
		return fmt.Errorf("%s is not a bpf file system: mount one with 'mount -t bpf bpf %s'", parent, parent)
	}
	return nil
}

// objects lists maps and programs with the names they are pinned under.
func (p *Plane) objects() (map[string]*ebpf.Map, map[string]*ebpf.Program) {
	o := &p.objs
	maps := map[string]*ebpf.Map{
		"flows": o.Flows, "conns": o.Conns, "devices": o.Devices, "slots": o.Slots,
		"requests":  o.Requests,
		"pod_socks": o.PodSocks, "pods": o.Pods, "functions": o.Functions, "routes": o.Routes,
		"nodes": o.Nodes, "edges": o.Edges, "settings": o.Settings, "grants": o.Grants,
		"listeners": o.Listeners, "reasons": o.Reasons, "route_counters": o.RouteCounters,
		"pod_counters": o.PodCounters, "route_names": o.RouteNames,
		"function_names": o.FunctionNames, "events": o.Events,
	}
	progs := map[string]*ebpf.Program{
		"xdp_device": o.XdpDevice, "tc_device_in": o.TcDeviceIn, "tc_device_out": o.TcDeviceOut,
		"tc_pod_in": o.TcPodIn, "tc_pod_out": o.TcPodOut,
	}
	return maps, progs
}

// pinAll pins maps and programs into a temporary directory and renames it.
func (p *Plane) pinAll() error {
	tmp := p.dir + "-new"
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("clear %s: %w", tmp, err)
	}
	for _, d := range []string{"maps", "progs", "links"} {
		if err := os.MkdirAll(filepath.Join(tmp, d), 0o700); err != nil {
			return fmt.Errorf("make pin directory: %w", err)
		}
	}
	maps, progs := p.objects()
	for name, m := range maps {
		if err := m.Pin(filepath.Join(tmp, "maps", name)); err != nil {
			return fmt.Errorf("pin map %s: %w", name, err)
		}
	}
	for name, prog := range progs {
		if err := prog.Pin(filepath.Join(tmp, "progs", name)); err != nil {
			return fmt.Errorf("pin program %s: %w", name, err)
		}
	}
	if err := os.Rename(tmp, p.dir); err != nil {
		return fmt.Errorf("move pins into place: %w", err)
	}
	return nil
}

// pinLink pins a link so that it outlives the process. Names of links are not
// touched by the objects' own paths: the directory was renamed after their
// pinning.
func (p *Plane) pinLink(l link.Link, name string) error {
	if err := l.Pin(filepath.Join(p.dir, "links", name)); err != nil {
		_ = l.Close()
		return fmt.Errorf("pin link %s: %w", name, err)
	}
	p.links = append(p.links, l)
	p.attached[name] = true
	return nil
}

// Unpin ends the connections that the programs pinned under dir translate,
// detaches the programs and removes all pins, whoever made them. Nothing there
// is no error.
func Unpin(dir string) error {
	for _, d := range []string{dir, dir + "-new"} {
		if _, err := os.Stat(d); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		endConnections(d)
		if err := detachAll(filepath.Join(d, "links")); err != nil {
			return err
		}
		if err := os.RemoveAll(d); err != nil {
			return fmt.Errorf("remove pins: %w", err)
		}
	}
	return nil
}

func detachAll(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list pinned links: %w", err)
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		l, err := link.LoadPinnedLink(name, nil)
		if err == nil {
			_ = l.Detach() // the interface may be gone
			_ = l.Close()
		}
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove link %s: %w", name, err)
		}
	}
	return nil
}

// Unload removes everything a loader left under dir. It refuses while a loader
// runs.
func Unload(dir string) error {
	lock, err := acquireLock(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	return Unpin(dir)
}

// monotonic is CLOCK_MONOTONIC, the clock of the BPF programs.
func monotonic() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}
