package dataplane

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// AttachDevice attaches the device-side programs to a node interface. xdp is
// the configuration's choice: auto, native, generic or off. It returns what is
// used: native, generic or off.
func (p *Plane) AttachDevice(name, xdp string) (string, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return "", fmt.Errorf("interface %s: %w", name, err)
	}
	if len(ifi.HardwareAddr) != 6 {
		return "", fmt.Errorf("interface %s: not Ethernet", name)
	}
	// Egress first: nothing may be taken that could not be translated back.
	if err := p.attachTCX(ifi, "tc_device_out", p.objs.TcDeviceOut, ebpf.AttachTCXEgress); err != nil {
		return "", err
	}
	if err := p.attachTCX(ifi, "tc_device_in", p.objs.TcDeviceIn, ebpf.AttachTCXIngress); err != nil {
		return "", err
	}
	mode, ok := map[string]link.XDPAttachFlags{
		"auto":    link.XDPDriverMode,
		"native":  link.XDPDriverMode,
		"generic": link.XDPGenericMode,
	}[xdp]
	if !ok {
		return "off", nil
	}
	l, err := link.AttachXDP(link.XDPOptions{Program: p.objs.XdpDevice, Interface: ifi.Index, Flags: mode})
	if err != nil {
		if xdp == "auto" {
			p.log.Warn("no native XDP here, messages are taken at TC", "interface", name, "error", err)
			return "off", nil
		}
		if errors.Is(err, os.ErrExist) {
			return "", fmt.Errorf("attach XDP to %s: another XDP program is attached", name)
		}
		return "", fmt.Errorf("attach XDP (%s) to %s: %w", xdp, name, err)
	}
	if err := p.pinLink(l, linkName("xdp_device", name)); err != nil {
		return "", err
	}
	if mode == link.XDPGenericMode {
		return "generic", nil
	}
	return "native", nil
}

// attachPod attaches the pod-side programs to the interface that leads to a pod.
func (p *Plane) attachPod(ifindex int) error {
	ifi, err := net.InterfaceByIndex(ifindex)
	if err != nil {
		return fmt.Errorf("interface %d: %w", ifindex, err)
	}
	if len(ifi.HardwareAddr) != 6 {
		return fmt.Errorf("interface %s: not Ethernet", ifi.Name)
	}
	if p.attached[linkName("tc_device_in", ifi.Name)] {
		return fmt.Errorf("interface %s: serves devices already, pods must be behind another", ifi.Name)
	}
	if err := p.attachTCX(ifi, "tc_pod_out", p.objs.TcPodOut, ebpf.AttachTCXEgress); err != nil {
		return err
	}
	return p.attachTCX(ifi, "tc_pod_in", p.objs.TcPodIn, ebpf.AttachTCXIngress)
}

func (p *Plane) attachTCX(ifi *net.Interface, prog string, program *ebpf.Program, at ebpf.AttachType) error {
	name := linkName(prog, ifi.Name)
	if p.attached[name] {
		return nil
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: ifi.Index, Program: program, Attach: at, Anchor: link.Head()})
	if err != nil {
		return fmt.Errorf("attach %s to %s: %w", prog, ifi.Name, err)
	}
	return p.pinLink(l, name)
}

// linkName is the pin name of a program's link to an interface; bpffs takes no dots.
func linkName(prog, ifname string) string {
	return prog + "-" + strings.ReplaceAll(ifname, ".", "_")
}
