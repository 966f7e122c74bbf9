package main

import (
	"errors"

	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
	"eproxy/internal/dataplane"
	"eproxy/internal/output"
	"eproxy/internal/pinned"
	"eproxy/internal/reach"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "whether a loader runs, what is attached by what the kernel says, and which pods are the fallback's",
		Flags: []cli.Flag{cliutil.BPFFSFlag(), output.Flag()},
		Action: func(c *cli.Context) error {
			rows, err := status(c.String("bpffs"))
			if err != nil {
				return err
			}
			return rows.Print(c)
		},
	}
}

// status takes no lock and asks no loader: it does not matter to one that starts
// or runs, nor whether there is one.
func status(dir string) (*output.Rows, error) {
	r := &output.Rows{Columns: []string{"kind", "name", "state", "interface", "program", "detail"}}
	pid, running, err := dataplane.Holder(dir)
	if err != nil {
		return nil, err
	}
	if running {
		r.Add("loader", "pid "+pid, "running", "", "", "")
	} else {
		r.Add("loader", "-", "not running", "", "", "")
	}
	links, err := pinned.Links(dir)
	if err != nil {
		return nil, err
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
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	defer m.Close()
	r.Add("maps", dir, "pinned", "", "", "")
	return r, addPods(r, m)
}

// addPods shows the pods that are not reached in the best way.
func addPods(r *output.Rows, m *pinned.Maps) error {
	pods, err := m.Pods()
	if err != nil {
		return err
	}
	left, err := m.LeftPods()
	if err != nil {
		return err
	}
	add := func(p reach.Pod) {
		if p.Reason != "" {
			r.Add("pod", p.Address.String()+" of "+p.Function, p.Way.String(), "", "", p.Path.String())
		}
	}
	for _, p := range pods {
		add(reach.Pod{Function: p.Function, Address: p.Address, Path: reach.Path{Way: reach.TC, Reason: p.Reason}})
	}
	for _, p := range left {
		add(reach.Pod{Function: p.Function, Address: p.Address, Path: reach.Path{Way: reach.Fallback, Reason: p.Reason}})
	}
	return nil
}
