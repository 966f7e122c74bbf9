package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
	"eproxy/internal/dataplane"
)

func unloadCommand() *cli.Command {
	return &cli.Command{
		Name:  "unload",
		Usage: "detach and remove everything a loader left, also after a crash",
		Flags: []cli.Flag{cliutil.BPFFSFlag()},
		Action: func(c *cli.Context) error {
			if err := dataplane.Unload(c.String("bpffs")); err != nil {
				return err
			}
			fmt.Fprintln(c.App.Writer, "nothing of eproxy is attached or pinned")
			return nil
		},
	}
}
