package explain

import (
	"net/netip"

	"eproxy/internal/broker"
	"eproxy/internal/pinned"
)

// Message is the PUBLISH in question.
type Message struct {
	Topic      string
	QoS        int
	Size       int  // bytes of its payload
	Retain     bool // RETAIN is set
	Properties bool // it has MQTT 5 properties that the kernel path does not take
}

// Facts are what is known when the message comes.
type Facts struct {
	Message  Message
	Server   broker.Explanation
	Draining bool             // the programs take nothing more
	XDPIdle  bool             // no pod takes XDP redirects
	Flow     *pinned.Flow     // of the client's connection; nil: the programs do not know it
	Granted  bool             // the client is known to be allowed on the topic
	Function *pinned.Function // that the programs would send it to; nil: the fallback decides
	Pods     []pinned.Pod     // in the kernel path, of the function
	Left     []pinned.LeftPod // others of the function
}

// Collect reads the facts that the maps hold. server is what the MQTT server says.
func Collect(m *pinned.Maps, msg Message, server broker.Explanation) (*Facts, error) {
	f := &Facts{Message: msg, Server: server}
	g, err := m.Settings()
	if err != nil {
		return nil, err
	}
	f.Draining, f.XDPIdle = g.Draining != 0, g.XdpIdle != 0
	if err := f.collectFlow(m); err != nil {
		return nil, err
	}
	return f, f.collectFunction(m)
}

// collectFlow finds the client's connection.
func (f *Facts) collectFlow(m *pinned.Maps) error {
	remote, err := netip.ParseAddrPort(f.Server.Link)
	if err != nil {
		return nil // the kernel path does not have it
	}
	flows, err := m.Flows()
	if err != nil {
		return err
	}
	for _, x := range flows {
		if x.State != "closed" && x.Remote == netip.AddrPortFrom(remote.Addr().Unmap().WithZone(""), remote.Port()) {
			f.Flow = &x
			f.Granted, err = m.Granted(x, f.Message.Topic)
			return err
		}
	}
	return nil
}

// collectFunction finds the function that the route names, if it is one alone, and its pods.
func (f *Facts) collectFunction(m *pinned.Maps) error {
	r := f.Server.Route
	if r == nil || len(r.Functions) != 1 {
		return nil
	}
	functions, err := m.Functions()
	if err != nil {
		return err
	}
	for _, x := range functions {
		if x.Name == r.Functions[0] {
			f.Function = &x
		}
	}
	pods, err := m.Pods()
	if err != nil {
		return err
	}
	for _, p := range pods {
		if p.Function == r.Functions[0] {
			f.Pods = append(f.Pods, p)
		}
	}
	left, err := m.LeftPods()
	if err != nil {
		return err
	}
	for _, p := range left {
		if p.Function == r.Functions[0] {
			f.Left = append(f.Left, p)
		}
	}
	return nil
}
