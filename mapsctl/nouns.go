package main

import (
	"math/bits"

	"eproxy/internal/abi"
	"eproxy/internal/output"
	"eproxy/internal/pinned"
	"eproxy/internal/reach"
	"eproxy/internal/reason"
)

func showRoutes(m *pinned.Maps) (*output.Rows, error) {
	routes, err := m.Routes()
	if err != nil {
		return nil, err
	}
	r := &output.Rows{Columns: []string{"topic", "function", "path", "taken", "answered", "mean_us"}}
	for _, x := range routes {
		path := "kernel"
		if x.Fallback {
			path = "fallback"
		}
		answered := x.Stats.Answered[0] + x.Stats.Answered[1]
		mean := uint64(0)
		if answered > 0 {
			mean = x.Stats.Nanoseconds / answered / 1000
		}
		r.Add(x.Filter, x.Function, path, x.Stats.Taken[0]+x.Stats.Taken[1], answered, mean)
	}
	return r, nil
}

func showPods(m *pinned.Maps) (*output.Rows, error) {
	pods, err := m.Pods()
	if err != nil {
		return nil, err
	}
	left, err := m.LeftPods()
	if err != nil {
		return nil, err
	}
	r := &output.Rows{Columns: []string{"function", "pod", "state", "concurrency", "slots", "idle", "fallback", "answered", "pipeline", "pipeline_why", "place", "reached_by", "reason"}}
	for _, p := range pods {
		by := reach.TC
		if p.XDP {
			by = reach.XDP
		}
		r.Add(p.Function, p.Address.String(), p.State, p.Concurrency, p.Connected, bits.OnesCount64(p.Idle), p.Fallback, p.Answered, p.Pipeline, p.PipelineWhy, placeOf(p.Far), by.String(), p.Reason)
	}
	functions, err := m.Functions()
	if err != nil {
		return nil, err
	}
	concurrency := make(map[string]uint32)
	for _, f := range functions {
		concurrency[f.Name] = f.Concurrency
	}
	for _, p := range left { // what the fallback has in flight there is known to the loader alone, and to Prometheus
		var by any // nothing, while it gets no messages
		if p.State == pinned.PodStates[abi.PodUp] {
			by = reach.Fallback.String()
		}
		r.Add(p.Function, p.Address.String(), p.State, concurrency[p.Function], 0, 0, nil, 0, 1, "", placeOf(p.Far), by, p.Reason)
	}
	return r, nil
}

// placeOf says where a pod is.
func placeOf(far bool) string {
	if far {
		return "remote"
	}
	return "local"
}

func showSlots(m *pinned.Maps) (*output.Rows, error) {
	slots, err := m.Slots()
	if err != nil {
		return nil, err
	}
	r := &output.Rows{Columns: []string{"slot", "function", "pod", "local", "state", "requests"}}
	for _, s := range slots {
		local := ""
		if s.Local.Port() != 0 {
			local = s.Local.String()
		}
		r.Add(s.Index, s.Pod.Function, s.Pod.Address.String(), local, s.State, s.Requests)
	}
	return r, nil
}

func showFlows(m *pinned.Maps) (*output.Rows, error) {
	flows, err := m.Flows()
	if err != nil {
		return nil, err
	}
	r := &output.Rows{Columns: []string{"client", "remote", "local", "state", "taken", "in_flight", "bytes_removed", "bytes_inserted", "lost_track"}}
	for _, f := range flows {
		r.Add(f.Client, f.Remote.String(), f.Local.String(), f.State, f.Taken, f.InFlight, f.Removed, f.Inserted, f.Lost)
	}
	return r, nil
}

func showReasons(m *pinned.Maps) (*output.Rows, error) {
	counts, err := m.Reasons()
	if err != nil {
		return nil, err
	}
	r := &output.Rows{Columns: []string{"hook", "reason", "count", "meaning"}}
	for h, row := range counts {
		for i, n := range row {
			if n > 0 {
				r.Add(reason.Hooks[h], reason.All[i].Name, n, reason.All[i].Text)
			}
		}
	}
	return r, nil
}
