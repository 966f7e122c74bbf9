// Command mapsctl shows what the data plane holds, read from pinned maps, so that
// it works with the loader dead; what only the loader knows, and verbs, go through
// the loader's control socket.
package main

import (
	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
	"eproxy/internal/output"
	"eproxy/internal/pinned"
)

func main() { cliutil.Main(newApp()) }

func newApp() *cli.App {
	return &cli.App{
		Name:  "mapsctl",
		Usage: "show eproxy's routes, functions, pods, connections and counters, and change the former three",
		Commands: []*cli.Command{
			noun("routes", "routes in the order of the configuration, with their counters", showRoutes, append(routeVerbs(), testCommand())...),
			functionsCommand(),
			noun("pods", "pods, where they are in their life and why, and how many of their slots are idle", showPods, podVerbs()...),
			noun("slots", "keep-alive connections to the pods", showSlots),
			noun("flows", "connections of devices that the kernel path knows", showFlows),
			clientsCommand(),
			deadLettersCommand(),
			explainCommand(),
			traceCommand(),
			topCommand(),
			instancesCommand(),
			metricsCommand(),
			noun("reasons", "why packets were taken or left to the fallback, by hook", showReasons),
		},
	}
}

// noun is a command that reads the pinned maps and prints rows.
func noun(name, usage string, show func(*pinned.Maps) (*output.Rows, error), sub ...*cli.Command) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, Subcommands: sub,
		Flags:  []cli.Flag{output.Flag(), cliutil.BPFFSFlag()},
		Action: func(c *cli.Context) error { return withMaps(c, show) },
	}
}

func withMaps(c *cli.Context, show func(*pinned.Maps) (*output.Rows, error)) error {
	m, err := pinned.Open(c.String("bpffs"))
	if err != nil {
		return err
	}
	defer m.Close()
	rows, err := show(m)
	if err != nil {
		return err
	}
	return rows.Print(c)
}
