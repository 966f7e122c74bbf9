package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
	"eproxy/internal/control"
	"eproxy/internal/datapath"
	"eproxy/internal/instances"
	"eproxy/internal/pinned"
	"eproxy/internal/podgro"
)

func unloadCommand() *cli.Command {
	return &cli.Command{
		Name:  "unload",
		Usage: "detach and remove everything a loader left, also after a crash",
		Flags: []cli.Flag{cliutil.BPFFSFlag()},
		Action: func(c *cli.Context) error {
			dir := c.String("bpffs")
			links, unread := pinned.Links(dir)
			stays := datapath.Unload(dir)
			if stays != nil && !errors.Is(stays, podgro.ErrNotRestored) {
				return stays
			}
			if err := os.Remove(control.Path(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove the control socket: %w", err)
			}
			if err := instances.Unload(instances.ID(dir), filepath.Dir(control.Path(dir))); err != nil {
				return fmt.Errorf("remove what instances of functions left: %w", err)
			}
			if unread != nil {
				fmt.Fprintf(c.App.ErrWriter, "removed all the same: %s\n", strings.ReplaceAll(unread.Error(), "\n", "; "))
			}
			for _, l := range links {
				fmt.Fprintln(c.App.Writer, detached(l))
			}
			fmt.Fprintf(c.App.Writer, "nothing of eproxy is attached or pinned under %s\n", dir)
			return stays
		},
	}
}

// detached says what has become of a link.
func detached(l pinned.Link) string {
	if !l.Attached {
		return fmt.Sprintf("removed: %s, whose interface was deleted", l.Program)
	}
	return fmt.Sprintf("detached: %s from %s (%s)", l.Program, l.Interface, l.Mode)
}
