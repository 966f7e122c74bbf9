package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
	"eproxy/internal/control"
	"eproxy/internal/dataplane"
)

func unloadCommand() *cli.Command {
	return &cli.Command{
		Name:  "unload",
		Usage: "detach and remove everything a loader left, also after a crash",
		Flags: []cli.Flag{cliutil.BPFFSFlag()},
		Action: func(c *cli.Context) error {
			dir := c.String("bpffs")
			if err := dataplane.Unload(dir); err != nil {
				return err
			}
			if err := os.Remove(control.Path(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove the control socket: %w", err)
			}
			fmt.Fprintln(c.App.Writer, "nothing of eproxy is attached or pinned")
			return nil
		},
	}
}
