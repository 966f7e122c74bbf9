package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
	"eproxy/internal/control"
	"eproxy/internal/delivery"
	"eproxy/internal/output"
	"eproxy/internal/reason"
	"eproxy/internal/refusal"
	"eproxy/internal/trace"
)

// traceCommand shows what becomes of messages, line by line, as it happens.
func traceCommand() *cli.Command {
	return &cli.Command{
		Name: "trace", Usage: "what becomes of messages, as it happens, until interrupted (needs a running loader)",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "client", Usage: "only of the client `ID`"},
			&cli.StringFlag{Name: "topic", Usage: "only to topics that the `FILTER` matches"},
			&cli.StringFlag{Name: "function", Usage: "only for the function `NAME`"},
			&cli.StringFlag{Name: "reason", Usage: "only those taken, left or refused for this `REASON`, or with this outcome"},
			&cli.IntFlag{Name: "status", Usage: "only those answered with this HTTP `STATUS`"},
			&cli.Float64Flag{Name: "sample", Usage: "only about this `PART` of them, 0.01 is one in a hundred", Value: 1},
			&cli.IntFlag{Name: "count", Usage: "end after `N` lines"},
			&cli.DurationFlag{Name: "for", Usage: "end after this `TIME`"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "print as `FORM`: table, or json, an object a line", Value: "table"},
			cliutil.BPFFSFlag(),
		},
		Action: func(c *cli.Context) error {
			f := trace.Filter{Client: c.String("client"), Topic: c.String("topic"), Function: c.String("function"), Reason: c.String("reason"),
				Status: c.Int("status"), Sample: c.Float64("sample")}
			if err := checkTrace(c, &f); err != nil {
				return cliutil.Usagef("%v", err)
			}
			show, err := tracePrinter(c.App.Writer, c.String("output"))
			if err != nil {
				return err
			}
			return watch(c, f, show)
		},
	}
}

// checkTrace says in one line what of a trace that is asked for is wrong, and would otherwise show nothing for ever.
func checkTrace(c *cli.Context, f *trace.Filter) error {
	if err := f.Check(); err != nil {
		return err
	}
	_, refused := refusal.Meanings[f.Reason]
	if f.Reason != "" && !refused && !slices.Contains(delivery.Outcomes, f.Reason) &&
		!slices.ContainsFunc(reason.All, func(r reason.Reason) bool { return r.Name == f.Reason }) {
		return fmt.Errorf("--reason %q: none of docs/REASONS.md, and no outcome or refusal of docs/METRICS.md", f.Reason)
	}
	if n := c.Int("count"); n < 0 {
		return fmt.Errorf("--count %d: must not be negative", n)
	}
	if d := c.Duration("for"); d < 0 {
		return fmt.Errorf("--for %s: must not be negative", d)
	}
	return nil
}

// errEnough ends a trace that was asked for so many lines.
var errEnough = errors.New("enough")

// watch shows messages until it is interrupted, or for as long as was asked for.
func watch(c *cli.Context, f trace.Filter, show func(trace.Event) error) error {
	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	if d := c.Duration("for"); d > 0 {
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	left := c.Int("count")
	begun := func() { fmt.Fprintln(c.App.ErrWriter, "looking at messages") }
	err := control.Dial(c.String("bpffs")).Trace(ctx, f, begun, func(e trace.Event) error {
		if err := show(e); err != nil {
			return err
		}
		if e.Path == trace.Lost {
			return nil
		}
		if left--; left == 0 {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) || ctx.Err() != nil && !errors.Is(err, control.ErrRefused) {
		return nil // as was asked for; also by an interrupt, which is how one without an end ends
	}
	return err
}

// tracePrinter prints messages in a form.
func tracePrinter(w io.Writer, form string) (func(trace.Event) error, error) {
	switch form {
	case "json":
		return func(e trace.Event) error { return json.NewEncoder(w).Encode(e) }, nil
	case "table":
		fmt.Fprintf(w, traceLine, "TIME", "PATH", "STATUS", "US", "QOS", "CLIENT", "TOPIC", "FUNCTION", "POD", "WHY")
		return func(e trace.Event) error {
			_, err := io.WriteString(w, traceRow(e))
			return err
		}, nil
	}
	return nil, cliutil.Usagef("-o %q: must be table or json", form)
}

const traceLine = "%-15s  %-8s  %6s  %8s  %3s  %-16s  %-28s  %-12s  %-21s  %s\n"

// traceRow is a message as a line of the table.
func traceRow(e trace.Event) string {
	if e.Path == trace.Lost {
		return fmt.Sprintf("%-15s  %-8s  %d messages could not be shown\n", e.Time.Format("15:04:05.000000"), e.Path, e.Lost)
	}
	why := strings.Join(some(e.Reason, e.Outcome), ", ")
	if e.Waited > 0 {
		why += fmt.Sprintf(", waited %d us", e.Waited.Microseconds())
	}
	status, took := "-", "-"
	if e.Status != 0 {
		status = fmt.Sprint(e.Status)
	}
	if e.Took > 0 {
		took = fmt.Sprint(e.Took.Round(time.Microsecond).Microseconds())
	}
	topic := output.Printable(e.Topic)
	if e.TopicCut {
		topic += "..."
	}
	return fmt.Sprintf(traceLine, e.Time.Format("15:04:05.000000"), e.Path, status, took, fmt.Sprint(e.QoS), dash(output.Printable(e.Client)), dash(topic),
		dash(e.Function), dash(e.Pod), why)
}

// some are those that are not empty.
func some(all ...string) (out []string) {
	for _, s := range all {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
