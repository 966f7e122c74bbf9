package main

import (
	"time"

	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
	"eproxy/internal/control"
	"eproxy/internal/output"
)

// clientsCommand shows who is connected; what it shows is the running loader's.
func clientsCommand() *cli.Command {
	return &cli.Command{
		Name: "clients", Usage: "who is connected, by which rights, on which path (needs a running loader)",
		Flags: []cli.Flag{output.Flag(), cliutil.BPFFSFlag()}, Subcommands: []*cli.Command{kickCommand()},
		Action: func(c *cli.Context) error {
			clients, err := control.Dial(c.String("bpffs")).Clients(c.Context)
			if err != nil {
				return err
			}
			r := &output.Rows{Columns: []string{"client", "username", "remote", "mqtt", "path", "publish", "since", "broker"}}
			for _, x := range clients {
				r.Add(x.ClientID, x.Username, x.Remote, x.Version, x.Path, x.Rights, x.Since.UTC().Format(time.RFC3339), x.Broker)
			}
			return r.Print(c)
		},
	}
}

// kickCommand ends one client's connection.
func kickCommand() *cli.Command {
	return &cli.Command{
		Name: "kick", Usage: "disconnect a client; it may connect again, unless auth.deny names it", ArgsUsage: "CLIENT",
		Flags: []cli.Flag{cliutil.BPFFSFlag()},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return cliutil.Usagef("clients kick takes one CLIENT")
			}
			return control.Dial(c.String("bpffs")).Kick(c.Context, c.Args().First())
		},
	}
}
