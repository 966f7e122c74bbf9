package main

import (
	"fmt"

	"eproxy/internal/abi"
	"eproxy/internal/config"
	"eproxy/internal/dataplane"
	"eproxy/internal/instances"
	"eproxy/internal/upstream"
)

// live is a configuration with the pods of now that get messages; those that do not are
// noted to be shown.
func (n *node) live(cfg *config.Config) *config.Config {
	live := n.life.Apply(n.pods.Apply(cfg))
	n.plane.NotePods(append(notes(cfg, n.life.Unserved()), waiting(n.local.Instances())...))
	return live
}

// waiting are the instances that are no pods yet, or no more.
func waiting(all []instances.Status) (out []dataplane.PodNote) {
	for _, i := range all {
		if i.Pod {
			continue
		}
		why := fmt.Sprintf("instance %d: %s", i.Instance, i.State)
		if i.Reason != "" {
			why += ": " + i.Reason
		}
		out = append(out, dataplane.PodNote{Function: i.Function, Address: i.Address, State: abi.PodDiscovered, Reason: why})
	}
	return out
}

// undo has the pods of the running configuration followed again, after a live that
// could not be had.
func (n *node) undo() {
	n.life.Undo()
	n.live(n.cfg)
	n.pods.Again() // what has happened to pods meanwhile is not in force
}

// notes say why pods get no messages.
func notes(cfg *config.Config, pods []upstream.Pod) (out []dataplane.PodNote) {
	states := map[upstream.State]uint32{upstream.Discovered: abi.PodDiscovered, upstream.Suspect: abi.PodSuspect, upstream.Drained: abi.PodDrained}
	for _, p := range pods {
		note := dataplane.PodNote{Function: p.Function, Address: p.Address, State: states[p.State], Reason: p.Reason}
		if fn := cfg.Function(p.Function); fn != nil && fn.Paused && p.State == upstream.Ready {
			note.State, note.Reason = abi.PodPaused, "its function is paused"
		}
		if note.State != 0 {
			out = append(out, note)
		}
	}
	return out
}

// followPods brings the pods into service that are to get messages now, and takes the
// others out of it.
func (n *node) followPods() error {
	live := n.live(n.cfg)
	if err := n.plane.InstallPods(live); err != nil {
		return err
	}
	n.engine.Reload(live, n.plane)
	n.observe(live)
	return nil
}

// followPodsOrAgain is followPods, later once more if it fails.
func (n *node) followPodsOrAgain() {
	if err := n.followPods(); err != nil {
		n.log.Error("pods have changed, those before stay in service for now", "error", err)
		n.pods.Again()
	}
}
