package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/cilium/ebpf"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"eproxy/internal/cliutil"
	"eproxy/internal/control"
	"eproxy/internal/output"
	"eproxy/internal/top"
)

// topCommand shows what functions, pods and programs do per second.
func topCommand() *cli.Command {
	return &cli.Command{
		Name: "top", Usage: "what functions, pods and programs do per second, live (needs a running loader)",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "interval", Aliases: []string{"i"}, Usage: "between two readings `TIME`", Value: time.Second},
			&cli.BoolFlag{Name: "once", Usage: "print one interval and end, for scripts"},
			&cli.BoolFlag{Name: "programs", Usage: "have the kernel measure the BPF programs meanwhile"},
			output.Flag(), cliutil.BPFFSFlag(),
		},
		Action: func(c *cli.Context) error {
			every := c.Duration("interval")
			if every < 100*time.Millisecond {
				return cliutil.Usagef("--interval %s: must be at least 100ms", every)
			}
			if c.Bool("programs") {
				stop, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
				if err != nil {
					return fmt.Errorf("measure the programs: %w", err)
				}
				defer stop.Close()
			}
			take := reading(control.Dial(c.String("bpffs")))
			if c.Bool("once") {
				return topOnce(c, every, take)
			}
			if !isTerminal(os.Stdin) || !isTerminal(os.Stdout) {
				return cliutil.Usagef("top: not on a terminal: --once prints one interval")
			}
			if _, err := take(c.Context); err != nil {
				return err // before the screen is the program's
			}
			first := top.NewScreen(c.Context, every, take)
			_, err := tea.NewProgram(first, tea.WithContext(c.Context), tea.WithAltScreen(), tea.WithInput(os.Stdin), tea.WithOutput(c.App.Writer)).Run()
			if errors.Is(err, tea.ErrProgramKilled) && c.Context.Err() != nil {
				return nil // interrupted, which is a way to end it
			}
			return err
		},
	}
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// reading reads the loader's metrics.
func reading(loader *control.Client) func(context.Context) (*top.Snapshot, error) {
	return func(ctx context.Context) (s *top.Snapshot, err error) {
		err = loader.Metrics(ctx, func(r io.Reader) error {
			s, err = top.Read(r, time.Now())
			return err
		})
		return s, err
	}
}

// topOnce prints what happens in one interval.
func topOnce(c *cli.Context, every time.Duration, take func(context.Context) (*top.Snapshot, error)) error {
	before, err := take(c.Context)
	if err != nil {
		return err
	}
	select {
	case <-c.Context.Done():
		return c.Context.Err()
	case <-time.After(every):
	}
	after, err := take(c.Context)
	if err != nil {
		return err
	}
	r := &output.Rows{Columns: []string{"kind", "name", "pod", "rate", "in_flight", "waiting", "p50_us", "p99_us", "kernel_percent", "errors", "cpu_percent"}}
	for _, x := range top.Between(before, after) {
		r.Add(x.Kind, x.Name, x.Pod, known(x.Rate), known(x.InFlight), known(x.Waiting), known(x.P50), known(x.P99), known(x.Share), known(x.Errors), known(x.CPU))
	}
	return r.Print(c)
}

// known is a number to two digits; nil if it is not known.
func known(v float64) any {
	if math.IsNaN(v) {
		return nil
	}
	return math.Round(v*100) / 100
}
