package main

import (
	"errors"
	"os"
	"path/filepath"
	"sort"

	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
	"eproxy/internal/dataplane"
	"eproxy/internal/output"
	"eproxy/internal/pinned"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "what is attached and pinned, and whether a loader runs",
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

func status(dir string) (*output.Rows, error) {
	r := &output.Rows{Columns: []string{"kind", "name", "state"}}
	pid, running, err := dataplane.Holder(dir)
	if err != nil {
		return nil, err
	}
	if running {
		r.Add("loader", "pid "+pid, "running")
	} else {
		r.Add("loader", "-", "not running")
	}
	links, err := names(filepath.Join(dir, "links"))
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		r.Add("link", l, "attached")
	}
	m, err := pinned.Open(dir)
	if errors.Is(err, pinned.ErrNotLoaded) {
		r.Add("maps", dir, "not pinned")
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	defer m.Close()
	r.Add("maps", dir, "pinned")
	return r, nil
}

func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	sort.Strings(out)
	return out, nil
}
