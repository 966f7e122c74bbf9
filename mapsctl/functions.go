package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"eproxy/internal/abi"
	"eproxy/internal/cliutil"
	"eproxy/internal/control"
	"eproxy/internal/delivery"
	"eproxy/internal/instances"
	"eproxy/internal/output"
	"eproxy/internal/pinned"
)

// functionsCommand shows what the maps say of functions, and what a running loader says of those that it has instances of.
func functionsCommand() *cli.Command {
	return &cli.Command{
		Name: "functions", Usage: "functions that routes lead to; of those that the loader runs, the state and why", Subcommands: functionVerbs(),
		Flags: []cli.Flag{output.Flag(), cliutil.BPFFSFlag()},
		Action: func(c *cli.Context) error {
			run, err := control.Dial(c.String("bpffs")).Functions(c.Context)
			if err != nil && !errors.Is(err, control.ErrNotRunning) {
				return err
			}
			spools, err := control.Dial(c.String("bpffs")).Spools(c.Context)
			if err != nil && !errors.Is(err, control.ErrNotRunning) {
				return err
			}
			return withMaps(c, func(m *pinned.Maps) (*output.Rows, error) { return showFunctions(m, run, spools) })
		},
	}
}

// showFunctions shows them; run are those with instances, spools those that are to have one, as the loader says.
func showFunctions(m *pinned.Maps, run []instances.FunctionStatus, spools map[string]delivery.SpoolStat) (*output.Rows, error) {
	fs, err := m.Functions()
	if err != nil {
		return nil, err
	}
	pods, err := m.Pods()
	if err != nil {
		return nil, err
	}
	left, err := m.LeftPods()
	if err != nil {
		return nil, err
	}
	r := &output.Rows{Columns: []string{"name", "url", "pods", "concurrency", "timeout_ms", "waiting", "spooled", "state", "instances", "policy", "next", "zygote", "zygote_memory", "reason"}}
	for _, f := range fs {
		n, paused := 0, false
		for _, p := range pods {
			if p.Function == f.Name {
				n++
			}
		}
		for _, p := range left {
			if p.Function == f.Name {
				n++
				paused = paused || p.State == pinned.PodStates[abi.PodPaused]
			}
		}
		row := []any{f.Name, f.URL, n, f.Concurrency, f.TimeoutMs, f.Waiting, spooled(spools, f.Name)}
		r.Add(append(row, runOf(run, f.Name, paused)...)...)
	}
	return r, nil
}

// spooled is how many messages are in a function's spool; empty where it has none, or one that cannot be used.
func spooled(spools map[string]delivery.SpoolStat, name string) any {
	if s := spools[name]; s.Usable {
		return s.Messages
	}
	return nil
}

// runOf are the columns of a function that are the loader's to say; empty where it runs no instances of it, but that it is
// paused, as its pods know.
func runOf(run []instances.FunctionStatus, name string, paused bool) []any {
	for _, x := range run {
		if x.Function != name {
			continue
		}
		next := ""
		if x.NextTo > 0 {
			next = fmt.Sprintf("%s to %s", clockTime(x.NextFrom), clockTime(x.NextTo))
		}
		state := string(x.State)
		if paused {
			state = pinned.PodStates[abi.PodPaused]
		}
		return append(append([]any{state, x.Instances, x.Policy, next}, zygoteOf(&x.Zygote)...), reasonOf(&x))
	}
	if paused {
		return []any{pinned.PodStates[abi.PodPaused], nil, "", "", "", nil, "messages wait until it is resumed"}
	}
	return []any{"", nil, "", "", "", nil, ""}
}

// zygoteOf are the columns of a zygote; empty where the function is to have none.
func zygoteOf(z *instances.ZygoteStatus) []any {
	if z.State == "" {
		return []any{"", nil}
	}
	return []any{string(z.State), z.Used}
}

// reasonOf is why the function is as it is, and why it has no zygote.
func reasonOf(x *instances.FunctionStatus) string {
	switch {
	case x.Zygote.Reason == "":
		return x.Reason
	case x.Reason == "":
		return "no zygote: " + x.Zygote.Reason
	}
	return x.Reason + "; no zygote: " + x.Zygote.Reason
}

// clockTime is a Unix time in seconds, for people: with the day if it is not within a day.
func clockTime(seconds float64) string {
	t := time.UnixMicro(int64(seconds * 1e6))
	if d := time.Until(t); d > 24*time.Hour || d < -24*time.Hour {
		return t.Format(time.DateTime)
	}
	return t.Format(time.TimeOnly)
}
