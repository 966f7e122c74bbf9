// Command loader attaches eproxy to a node's interfaces and runs it.
package main

import (
	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
	"eproxy/internal/heap"
)

func main() {
	heap.Floor()
	cliutil.Main(newApp())
}

func newApp() *cli.App {
	return &cli.App{
		Name:     "loader",
		Usage:    "attach eproxy to a node's interfaces and run it",
		Commands: []*cli.Command{runCommand(), checkCommand(), doctorCommand(), statusCommand(), unloadCommand()},
	}
}
