package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/vishvananda/netlink"

	"eproxy/internal/abi"
	"eproxy/internal/cliutil"
	"eproxy/internal/config"
	"eproxy/internal/datapath"
	"eproxy/internal/output"
	"eproxy/internal/pinned"
	"eproxy/internal/reach"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "whether a loader runs, what is attached by what the kernel says, what waits in the kernel, and which pods get no messages or are the fallback's",
		Flags: []cli.Flag{cliutil.BPFFSFlag(), &cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "also look for the interfaces of `FILE`"}, output.Flag()},
		Action: func(c *cli.Context) error {
			rows, links, err := status(c.String("bpffs"))
			if err != nil {
				return err
			}
			if f := c.String("config"); f != "" {
				cfg, err := config.Load(f, config.NeedInterfaces)
				if err != nil {
					return err
				}
				addInterfaces(rows, cfg.Interfaces, links)
			}
			return rows.Print(c)
		},
	}
}

// status takes no lock and asks no loader: it does not matter to one that starts
// or runs, nor whether there is one.
func status(dir string) (*output.Rows, []pinned.Link, error) {
	r := &output.Rows{Columns: []string{"kind", "name", "state", "interface", "program", "detail"}}
	pid, running, err := datapath.Holder(dir)
	if err != nil {
		return nil, nil, err
	}
	if running {
		r.Add("loader", "pid "+pid, "running", "", "", "")
	} else {
		r.Add("loader", "-", "not running", "", "", "")
	}
	links, err := pinned.Links(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, l := range links {
		if l.Attached {
			r.Add("link", l.Name, "attached", l.Interface, l.Program, l.Mode)
		} else {
			r.Add("link", l.Name, "defunct", "", l.Program, l.Mode+": its interface was deleted")
		}
	}
	m, err := pinned.Open(dir)
	if errors.Is(err, pinned.ErrNotLoaded) {
		r.Add("maps", dir, "not pinned", "", "", "")
		return r, links, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer m.Close()
	r.Add("maps", dir, "pinned", "", "", "")
	if err := addGRO(r, m); err != nil {
		return nil, nil, err
	}
	if err := addQueues(r, m); err != nil {
		return nil, nil, err
	}
	return r, links, addPods(r, m)
}

// addGRO shows the interfaces at whose far ends GRO was switched on.
func addGRO(r *output.Rows, m *pinned.Maps) error {
	all, err := m.GRO()
	if err != nil {
		return err
	}
	for _, g := range all {
		l, err := netlink.LinkByIndex(g.Ifindex)
		if err != nil {
			continue // it went with its pod
		}
		name, state, detail := l.Attrs().Name, "on", "switched on at the pod's end (pods_gro), until the loader stops or loader unload"
		if g.Declined {
			state, detail = "off", "switched on at the pod's end (pods_gro), and off again by somebody there"
		}
		r.Add("gro", name, state, name, "", detail)
	}
	return nil
}

// addQueues shows the functions that messages wait for in the kernel.
func addQueues(r *output.Rows, m *pinned.Maps) error {
	functions, err := m.Functions()
	if err != nil {
		return err
	}
	for _, f := range functions {
		if f.Waiting > 0 {
			r.Add("queue", f.Name, "waiting", "", "", fmt.Sprintf("%d messages wait in the kernel for a connection to a pod", f.Waiting))
		}
	}
	return nil
}

// addInterfaces shows those of a configuration's interfaces that nothing is attached to.
func addInterfaces(r *output.Rows, names []string, links []pinned.Link) {
	for _, name := range names {
		attached := slices.ContainsFunc(links, func(l pinned.Link) bool { return l.Attached && l.Interface == name })
		switch {
		case !interfaceExists(name):
			r.Add("interface", name, "gone", name, "", "there is none of that name: its devices are not served")
		case !attached:
			r.Add("interface", name, "not attached", name, "", "its devices are served by the fallback")
		}
	}
}

// addPods shows the pods that get no messages, that no connection leads to, or that are not reached in the best way.
func addPods(r *output.Rows, m *pinned.Maps) error {
	pods, err := m.Pods()
	if err != nil {
		return err
	}
	left, err := m.LeftPods()
	if err != nil {
		return err
	}
	add := func(function string, at netip.AddrPort, state string, path reach.Path) {
		name := at.String() + " of " + function
		switch {
		case state != pinned.PodStates[abi.PodUp]:
			r.Add("pod", name, state, "", "", strings.TrimSuffix("gets no new messages: "+path.Reason, ": "))
		case path.Reason != "":
			r.Add("pod", name, path.Way.String(), "", "", path.String())
		}
	}
	for _, p := range pods {
		if p.Connected == 0 && p.Refuses {
			r.Add("pod", p.Address.String()+" of "+p.Function, "unconnected", "", "", "no connection to it can be made")
		}
		add(p.Function, p.Address, p.State, reach.Path{Way: reach.TC, Reason: p.Reason})
	}
	for _, p := range left {
		add(p.Function, p.Address, p.State, reach.Path{Way: reach.Fallback, Reason: p.Reason})
	}
	return nil
}
