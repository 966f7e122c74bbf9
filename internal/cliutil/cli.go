// Package cliutil is what all commands have in common: exit codes, errors,
// output forms, logging.
package cliutil

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"eproxy/internal/buildinfo"
	"eproxy/internal/config"
)

// Exit codes of every command.
const (
	ExitOK     = 0
	ExitFailed = 1
	ExitUsage  = 2
)

// ErrUsage marks errors in how a command was called.
var ErrUsage = errors.New("usage")

// Usagef is an error in how a command was called.
func Usagef(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUsage, fmt.Sprintf(format, args...))
}

// Main runs the app as the whole process; SIGINT and SIGTERM end its context.
func Main(app *cli.App) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := Run(ctx, app, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Run runs the app with the given streams and returns its exit code. Errors
// are one line each on stderr.
func Run(ctx context.Context, app *cli.App, args []string, stdout, stderr io.Writer) int {
	app.Writer, app.ErrWriter = stdout, stderr
	app.EnableBashCompletion = true
	app.Version = buildinfo.Get().String()
	app.ExitErrHandler = func(*cli.Context, error) {}
	usage := func(_ *cli.Context, err error, _ bool) error { return Usagef("%v", err) }
	app.OnUsageError = usage
	setUsage(app.Commands, usage)
	if app.Action != nil {
		app.Action = needed(app.Flags, noArguments(app.Name, app.Action))
	} else {
		app.Action = func(c *cli.Context) error {
			if c.Args().Present() {
				return Usagef("no command %q; see %s --help", c.Args().First(), app.Name)
			}
			return cli.ShowAppHelp(c)
		}
	}
	err := app.RunContext(ctx, permute(app, args))
	if err == nil {
		return ExitOK
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		fmt.Fprintf(stderr, "%s: interrupted\n", app.Name)
		return ExitFailed
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(stderr, "%s: %s\n", app.Name, line)
	}
	if errors.Is(err, ErrUsage) {
		return ExitUsage
	}
	return ExitFailed
}

func setUsage(cmds []*cli.Command, f cli.OnUsageErrorFunc) {
	for _, c := range cmds {
		c.OnUsageError = f
		switch {
		case c.Action == nil:
			c.Action = subcommands
		case c.ArgsUsage == "":
			c.Action = needed(c.Flags, noArguments(c.Name, c.Action))
		default:
			c.Action = needed(c.Flags, c.Action)
		}
		setUsage(c.Subcommands, f)
	}
}

// subcommands says which commands there are below one that does nothing by itself.
func subcommands(c *cli.Context) error {
	if c.Args().Present() {
		return Usagef("no command %q; see %s --help", c.Args().First(), c.Command.HelpName)
	}
	return cli.ShowSubcommandHelp(c)
}

// needed refuses to run without the flags that are required, in one line: the library would print its help before it.
func needed(flags []cli.Flag, f cli.ActionFunc) cli.ActionFunc {
	var names []string
	for _, x := range flags {
		if s, ok := x.(*cli.StringFlag); ok && s.Required {
			s.Required = false
			names = append(names, s.Name)
		}
	}
	return func(c *cli.Context) error {
		missing := slices.DeleteFunc(slices.Clone(names), c.IsSet)
		if len(missing) > 0 {
			return Usagef("missing: --%s", strings.Join(missing, ", --"))
		}
		return f(c)
	}
}

// noArguments refuses arguments that would otherwise be ignored.
func noArguments(name string, f cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.Args().Present() {
			return Usagef("%s takes no argument %q", name, c.Args().First())
		}
		return f(c)
	}
}

// Logger logs to w at a level: debug, info, warn or error.
func Logger(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, Usagef("--log-level %q: must be debug, info, warn or error", level)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})), nil
}

// LogLevelFlag chooses the level of Logger.
func LogLevelFlag() cli.Flag {
	return &cli.StringFlag{Name: "log-level", Usage: "log `LEVEL` and above: debug, info, warn or error", Value: "info"}
}

// ConfigFlag names the configuration file.
func ConfigFlag() cli.Flag {
	return &cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "read the configuration from `FILE`", Required: true}
}

// BPFFSFlag names the directory of the pins.
func BPFFSFlag() cli.Flag {
	return &cli.StringFlag{Name: "bpffs", Usage: "pins are under `DIR`", Value: config.DefaultBPFFS}
}
