// Command loader attaches eproxy to a node's interfaces and runs it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(cliutil.Run(ctx, newApp(), os.Args, os.Stdout, os.Stderr))
}

func newApp() *cli.App {
	return &cli.App{
		Name:     "loader",
		Usage:    "attach eproxy to a node's interfaces and run it",
		Commands: []*cli.Command{runCommand(), checkCommand(), doctorCommand(), statusCommand(), unloadCommand()},
	}
}
