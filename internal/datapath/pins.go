package datapath

import (
	"fmt"

	"github.com/cilium/ebpf"

	"eproxy/internal/pindir"
	"eproxy/internal/podgro"
)

// objects lists maps and programs with the names they are pinned under.
func (d *Datapath) objects() (map[string]*ebpf.Map, map[string]*ebpf.Program) {
	o := &d.Objects
	maps := map[string]*ebpf.Map{
		"flows": o.Flows, "conns": o.Conns, "devices": o.Devices, "slots": o.Slots,
		"requests":  o.Requests,
		"pod_socks": o.PodSocks, "pods": o.Pods, "functions": o.Functions, "routes": o.Routes,
		"nodes": o.Nodes, "edges": o.Edges, "settings": o.Settings, "grants": o.Grants,
		"listeners": o.Listeners, "reasons": o.Reasons, "route_counters": o.RouteCounters,
		"queues": o.Queues, "pod_counters": o.PodCounters, "route_labels": o.RouteLabels, "pod_labels": o.PodLabels, "route_names": o.RouteNames,
		"function_names": o.FunctionNames, "pod_reasons": o.PodReasons, podgro.MapName: o.PodsGro, "events": o.Events,
	}
	progs := map[string]*ebpf.Program{
		"xdp_device": o.XdpDevice, "tc_device_in": o.TcDeviceIn, "tc_device_out": o.TcDeviceOut,
		"tc_pod_in": o.TcPodIn, "tc_pod_out": o.TcPodOut,
	}
	return maps, progs
}

// pinAll pins maps and programs into a staging directory and renames it.
func (d *Datapath) pinAll() error {
	staging, err := pindir.Create(d.dir, d.Objects.EproxyMaps.Mark)
	if err != nil {
		return err
	}
	maps, progs := d.objects()
	for name, m := range maps {
		if err := m.Pin(pindir.Path(staging, "maps", name)); err != nil {
			return fmt.Errorf("pin map %s: %w", name, err)
		}
	}
	for name, prog := range progs {
		if err := prog.Pin(pindir.Path(staging, "progs", name)); err != nil {
			return fmt.Errorf("pin program %s: %w", name, err)
		}
	}
	return pindir.Commit(d.dir)
}

// Unpin ends the connections that the programs pinned under dir translate, restores
// GRO at the pods' ends, detaches the programs and removes all pins, whoever made
// them. Nothing there is no error; what is not eproxy's is refused and not touched.
// An error that is podgro.ErrNotRestored means that all the rest was done.
func Unpin(dir string) error {
	return pindir.Remove(dir, func(dir string) error {
		endConnections(dir)
		return podgro.RestorePinned(pindir.Path(dir, "maps", podgro.MapName))
	})
}

// Unload removes everything a loader left under dir. It refuses while a loader
// runs.
func Unload(dir string) error {
	if _, err := pindir.Inspect(dir); err != nil {
		return err // before there is a lock of that name
	}
	lock, err := acquireLock(lockName(dir))
	if err != nil {
		return err
	}
	defer lock.Close()
	return Unpin(dir)
}
