package main

import (
	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
	"eproxy/internal/control"
	"eproxy/internal/output"
)

// instancesCommand shows what the loader runs; it alone knows.
func instancesCommand() *cli.Command {
	return &cli.Command{
		Name: "instances", Usage: "instances of functions that the loader runs, their states and why (needs a running loader)",
		Flags: []cli.Flag{output.Flag(), cliutil.BPFFSFlag()},
		Action: func(c *cli.Context) error {
			all, err := control.Dial(c.String("bpffs")).Instances(c.Context)
			if err != nil {
				return err
			}
			r := &output.Rows{Columns: []string{"function", "instance", "pod", "state", "pid", "starts", "memory", "memory_limit", "reason"}}
			for _, i := range all {
				r.Add(i.Function, i.Instance, i.Address.String(), string(i.State), i.PID, i.Starts, i.Used, i.Memory, i.Reason)
			}
			return r.Print(c)
		},
	}
}
