package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"eproxy/bench/gateway"
	"eproxy/internal/cliutil"
)

// gatewayCommand is a gateway in userspace, on the node.
func gatewayCommand() *cli.Command {
	return &cli.Command{
		Name: "gateway", Usage: "serve a gateway (used by bench itself)", Hidden: true,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "kind", Value: rowGateway, Usage: rowGateway + " or " + rowPlain},
			&cli.StringFlag{Name: "listen", Value: ":1883", Usage: "`ADDRESS` for devices"},
			&cli.StringSliceFlag{Name: "pod", Value: cli.NewStringSlice("10.88.1.2:8080", "10.88.2.2:8080"), Usage: "`ADDRESS` of a pod"},
			&cli.IntFlag{Name: "connections", Value: 4, Usage: "`N` to each pod"},
			&cli.StringFlag{Name: "url", Value: "http://temp.local/ingest", Usage: "`URL` of the function"},
		},
		Action: func(c *cli.Context) error {
			g, err := openGateway(c)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.App.ErrWriter, "msg=serving")
			return g.Run(c.Context)
		},
	}
}

func openGateway(c *cli.Context) (interface{ Run(context.Context) error }, error) {
	pods, n, url := c.StringSlice("pod"), c.Int("connections"), c.String("url")
	switch c.String("kind") {
	case rowGateway:
		return gateway.NewLoop(c.String("listen"), pods, n, url)
	case rowPlain:
		return gateway.NewPlain(c.String("listen"), pods, n, url)
	}
	return nil, cliutil.Usagef("--kind %q: %s or %s", c.String("kind"), rowGateway, rowPlain)
}
