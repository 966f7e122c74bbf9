package main

import (
	"net/netip"

	"eproxy/internal/dataplane"
	"eproxy/internal/instances"
	"eproxy/internal/upstream"
)

// recorder tells the runtime of instances, too, which functions are in use.
type recorder struct {
	upstream.Recorder
	local *instances.Runtime
}

func (n *node) recorder() recorder {
	return recorder{upstream.Recorder{Metrics: n.metrics, Life: n.life}, n.local}
}

// Request counts a request that a pod was sent; status 0: there was no response.
func (r recorder) Request(function, pod string, status int) {
	r.Recorder.Request(function, pod, status)
	r.local.Touch(function)
}

// activate is told that a message waits for a function without a pod.
func (n *node) activate(function string) {
	n.activateKnative(function)
	n.activateKEDA(function)
	n.activateScaling(function)
	if !n.local.Wake(function) {
		upstream.Waits(n.log)(function)
	}
}

// loadOf says what functions have to do, once there is an engine.
func (n *node) loadOf(function string) instances.Load {
	return instances.Load{Requests: n.engine.Held(function) + n.plane.Under(function), PerInstance: n.engine.Concurrency(function)}
}

// restOf has instances sleep as pods of the plane.
func restOf(plane *dataplane.Plane) func(string, netip.AddrPort, func()) (instances.Rest, bool) {
	return func(function string, pod netip.AddrPort, wake func()) (instances.Rest, bool) {
		r, busy := plane.Rest(function, pod, wake)
		if r == nil { // no Rest, where a *slots.Rest that is nil would be one
			return nil, busy
		}
		return r, false
	}
}
