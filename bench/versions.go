package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"
)

// versionsCommand compares this version with another one.
func versionsCommand() *cli.Command {
	return &cli.Command{
		Name: "versions", Usage: "cost per message of this version by that of another, and of this one by itself: what ratios chance makes",
		Flags: slices.Concat([]cli.Flag{
			&cli.PathFlag{Name: "other", Required: true, Usage: "`DIRECTORY` of the other version's loader and userspace-fallback"},
		}, roundFlags(60, 250*time.Millisecond), deviceFlags(), []cli.Flag{
			&cli.StringFlag{Name: "modes", Value: rowTC, Usage: "of what: tc, xdp, fallback"},
			&cli.StringFlag{Name: "loads", Value: "open2000,closed1,closed50", Usage: "as of bench"},
		}),
		Action: versions,
	}
}

// versions has three contenders of each mode: the other version, this one, and this one again.
func versions(c *cli.Context) (err error) {
	var all []*contender
	defer func() { err = errors.Join(err, retire(all)) }()
	modes := strings.Split(c.String("modes"), ",")
	for _, mode := range modes {
		for _, bin := range []string{c.Path("other"), "", ""} {
			x := &contender{mode: mode}
			x.bench, err = newBench(c)
			all = append(all, x)
			if err != nil {
				return err
			}
			if bin != "" {
				x.bin = bin
			}
			if x.loader, err = x.serve(mode); err != nil {
				return fmt.Errorf("%s, %s: %w", mode, x.bin, err)
			}
		}
	}
	return contest(all, func(load string) {
		for i, mode := range modes {
			printVersions(c.App.Writer, mode+", "+load, all[3*i], all[3*i+1], all[3*i+2])
		}
	})
}

// printVersions prints the ratios of this version's figures to another's, and of this one's to its own.
func printVersions(w io.Writer, title string, other, this, again *contender) {
	fmt.Fprintf(w, "\n%s, %d rounds: medians, mean of the ratios by round (95 %% interval)\n", title, len(this.ms))
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "figure\tother\tthis\tthis/other\tthis/this")
	for _, f := range []struct {
		name string
		f    func(measurement) float64
	}{
		{"charged us/msg", func(m measurement) float64 { return m.parts }},
		{"cpu us/msg", func(m measurement) float64 { return m.cpu }},
		{"p50 us", func(m measurement) float64 { return m.p50 }},
		{"p99 us", func(m measurement) float64 { return m.p99 }},
	} {
		fmt.Fprintf(tw, "%s\t%.1f\t%.1f\t%s\t%s\n", f.name, spreadOf(other.ms, f.f).median, spreadOf(this.ms, f.f).median,
			meanRatio(this.ms, other.ms, f.f), meanRatio(again.ms, this.ms, f.f))
	}
	_ = tw.Flush()
}

// meanRatio is the geometric mean of the ratios of a figure in the same rounds, with its 95 % interval: 1.96 standard
// errors of the logarithms' mean. Rounds in which there is nothing to compare do not count.
func meanRatio(ms, base []measurement, f func(measurement) float64) string {
	var sum, squares, n float64
	for i := range ms {
		if l := math.Log(f(ms[i]) / f(base[i])); !math.IsNaN(l) && !math.IsInf(l, 0) {
			sum, squares, n = sum+l, squares+l*l, n+1
		}
	}
	if n < 2 {
		return "?"
	}
	mean := sum / n
	off := 1.96 * math.Sqrt(max(squares/n-mean*mean, 0)/(n-1))
	return fmt.Sprintf("%.3f (%.3f to %.3f)", math.Exp(mean), math.Exp(mean-off), math.Exp(mean+off))
}
