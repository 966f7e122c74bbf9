package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"eproxy/test/lib/lab"
)

// xdpCommand compares XDP with TC.
func xdpCommand() *cli.Command {
	return &cli.Command{
		Name: "xdp", Usage: "what XDP brings against TC, with pods that take XDP redirects and with pods that do not",
		Flags: slices.Concat(roundFlags(15, 500*time.Millisecond), deviceFlags(), []cli.Flag{
			&cli.StringFlag{Name: "modes", Value: "tc,xdp,on", Usage: "of what; ratios are to the first"},
			&cli.StringFlag{Name: "loads", Value: "open200,open2000,open5000,closed1,closed50", Usage: "as of bench"},
		}),
		Action: xdp,
	}
}

// podKinds are the two kinds of pods: whether GRO is on at their ends of the veth pairs.
var podKinds = []struct {
	name string
	gro  bool
}{
	{"pods with GRO, which take XDP redirects", true},
	{"pods as CNI plugins make them, without", false},
}

func xdp(c *cli.Context) (err error) {
	modes := strings.Split(c.String("modes"), ",")
	var all []*contender
	defer func() { err = errors.Join(err, retire(all)) }()
	for kind := range podKinds {
		for _, mode := range modes {
			x := &contender{mode: mode, kind: kind}
			x.bench, err = newBench(c)
			all = append(all, x)
			if err != nil {
				return err
			}
			if err := x.start(); err != nil {
				return fmt.Errorf("%s: %w", mode, err)
			}
		}
	}
	return contest(all, func(load string) {
		for kind := range podKinds {
			printXDP(c.App.Writer, fmt.Sprintf("%s, %s", load, podKinds[kind].name), all[kind*len(modes):][:len(modes)])
		}
	})
}

// start switches GRO at the pods' ends and starts the loader.
func (x *contender) start() (err error) {
	for _, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
		if err := x.lab.Do(pod, func() error { return lab.SetGRO("eth0", podKinds[x.kind].gro) }); err != nil {
			return fmt.Errorf("switch GRO of %s: %w", pod, err)
		}
	}
	x.loader, err = x.serve(x.mode)
	return err
}

// printXDP prints the medians of one load and one kind of pods, and the ratios to the
// first mode of the same round with their extremes.
func printXDP(w io.Writer, title string, rows []*contender) {
	figures := []struct {
		name string
		f    func(measurement) float64
	}{
		{"cpu us/msg", func(m measurement) float64 { return m.cpu }},
		{"charged us/msg", func(m measurement) float64 { return m.parts }},
		{"p50 us", func(m measurement) float64 { return m.p50 }},
		{"p99 us", func(m measurement) float64 { return m.p99 }},
		{"msg/s", func(m measurement) float64 { return m.rate }},
	}
	fmt.Fprintf(w, "\n%s, %d rounds: median, ratio to %s (low to high)\n", title, len(rows[0].ms), rows[0].mode)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "mode")
	for _, f := range figures {
		fmt.Fprint(tw, "\t", f.name, "\tratio")
	}
	fmt.Fprintln(tw)
	for _, x := range rows {
		fmt.Fprint(tw, x.mode)
		for _, f := range figures {
			r := ratios(x.ms, rows[0].ms, f.f)
			fmt.Fprintf(tw, "\t%.1f\t%.2f (%.2f to %.2f)", spreadOf(x.ms, f.f).median, r.median, r.low, r.high)
		}
		fmt.Fprintln(tw)
	}
	_ = tw.Flush()
}

// ratios are those of a figure in the same rounds.
func ratios(ms, base []measurement, f func(measurement) float64) spread {
	v := make([]float64, len(ms))
	for i := range ms {
		v[i] = f(ms[i]) / f(base[i])
	}
	sort.Float64s(v)
	return spread{v[0], v[len(v)/2], v[len(v)-1]}
}
