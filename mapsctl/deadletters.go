package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
	"eproxy/internal/control"
	"eproxy/internal/output"
)

// deadLettersCommand shows and delivers the dead letters that functions keep in files; the running loader has them.
func deadLettersCommand() *cli.Command {
	return &cli.Command{
		Name: "deadletters", Usage: "messages that a function did not take and that are kept in its file (needs a running loader)",
		Subcommands: []*cli.Command{listLettersCommand(), replayLettersCommand(), purgeLettersCommand()},
	}
}

// lettersOf is the command's function.
func lettersOf(c *cli.Context) (string, error) {
	if c.NArg() != 1 {
		return "", cliutil.Usagef("deadletters %s takes one FUNCTION", c.Command.Name)
	}
	return c.Args().First(), nil
}

func listLettersCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "the letters of a function, the oldest first", ArgsUsage: "FUNCTION",
		Flags: []cli.Flag{output.Flag(), cliutil.BPFFSFlag(), &cli.IntFlag{Name: "limit", Value: 100, Usage: "how many at most"}},
		Action: func(c *cli.Context) error {
			function, err := lettersOf(c)
			if err != nil {
				return err
			}
			if c.Int("limit") < 1 {
				return cliutil.Usagef("--limit %d: must be at least 1", c.Int("limit"))
			}
			listed, err := control.Dial(c.String("bpffs")).Letters(c.Context, function, c.Int("limit"))
			if err != nil {
				return err
			}
			r := &output.Rows{Columns: []string{"time", "client", "username", "topic", "qos", "bytes", "attempts", "status", "error"}}
			for _, l := range listed.Letters {
				r.Add(l.Time.UTC().Format(time.RFC3339), l.Client, l.Username, l.Topic, l.QoS, l.Bytes, l.Attempts, l.Status, l.Error)
			}
			if listed.Unreadable > 0 {
				fmt.Fprintf(c.App.ErrWriter, "%d lines of the file are no letters, or not whole\n", listed.Unreadable)
			}
			if listed.More {
				fmt.Fprintf(c.App.ErrWriter, "there are more than the %d that can be shown at once\n", len(listed.Letters))
			}
			return r.Print(c)
		},
	}
}

// errNotAll is that of a replay that has not delivered all letters.
var errNotAll = errors.New("not all letters were delivered; the others are kept")

func replayLettersCommand() *cli.Command {
	return &cli.Command{
		Name: "replay", Usage: "deliver the letters of a function to it; those that fail again are kept", ArgsUsage: "FUNCTION",
		Flags: []cli.Flag{cliutil.BPFFSFlag()},
		Action: func(c *cli.Context) error {
			function, err := lettersOf(c)
			if err != nil {
				return err
			}
			loader, delivered := control.Dial(c.String("bpffs")), 0
			for {
				r, err := loader.Replay(c.Context, function)
				delivered += r.Delivered
				if err == nil && r.Left > 0 && r.Failed == 0 && r.Delivered > 0 {
					continue // as many as one request may take
				}
				fmt.Fprintf(c.App.Writer, "%d delivered, %d failed again, %d not tried\n", delivered, r.Failed, r.Left)
				if err == nil && r.Left+r.Failed > 0 {
					err = errNotAll
				}
				return err
			}
		},
	}
}

func purgeLettersCommand() *cli.Command {
	return &cli.Command{
		Name: "purge", Usage: "remove the letters of a function, without delivering them", ArgsUsage: "FUNCTION",
		Flags: []cli.Flag{cliutil.BPFFSFlag()},
		Action: func(c *cli.Context) error {
			function, err := lettersOf(c)
			if err != nil {
				return err
			}
			n, err := control.Dial(c.String("bpffs")).Purge(c.Context, function)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "%d removed\n", n)
			return nil
		},
	}
}
