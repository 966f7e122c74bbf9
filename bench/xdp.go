package main

import (
	"errors"
	"fmt"
	"io"
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
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "rounds", Value: 15, Usage: "interleaved rounds `N`"},
			&cli.DurationFlag{Name: "duration", Value: 500 * time.Millisecond, Usage: "length of one measurement"},
			&cli.IntFlag{Name: "connections", Value: 20, Usage: "devices `N`"},
			&cli.IntFlag{Name: "payload", Value: 64, Usage: "bytes"},
			&cli.StringFlag{Name: "modes", Value: "tc,xdp,on", Usage: "of what; ratios are to the first"},
			&cli.StringFlag{Name: "loads", Value: "open200,open2000,open5000,closed1,closed50", Usage: "as of bench"},
		},
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

// contender is eproxy in a mode, in a lab of its own. All of them are up at the same
// time and loaded in turn, so that what else the machine does meets them alike.
type contender struct {
	*bench
	mode   string
	kind   int // of pods
	loader *lab.Process
	ms     []measurement
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
	idle, err := all[0].idle()
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "idle machine: %.1f ms of processor time per second\n", idle*1000)
	for _, ld := range strings.Split(c.String("loads"), ",") {
		if err := race(all, ld, idle); err != nil {
			return fmt.Errorf("%s: %w", ld, err)
		}
		for kind := range podKinds {
			printXDP(c.App.Writer, fmt.Sprintf("%s, %s", ld, podKinds[kind].name), all[kind*len(modes):][:len(modes)])
		}
	}
	return nil
}

// retire ends contenders, also such as have not begun.
func retire(all []*contender) (err error) {
	for _, x := range all {
		if x.loader != nil {
			err = errors.Join(err, x.loader.Stop())
		}
		x.close()
	}
	return err
}

// race has each contender make a load in turn, as often as there are rounds.
func race(all []*contender, name string, idle float64) error {
	plan, err := all[0].plan(name)
	if err != nil {
		return err
	}
	for _, x := range all {
		x.ms = nil
	}
	for round := range all[0].c.Int("rounds") {
		for i := range all {
			x := all[(i+round)%len(all)] // nobody always comes first
			m, err := x.load(x.mqtt(plan), x.loader, plan, idle)
			if err != nil {
				return fmt.Errorf("%s: %w", x.mode, err)
			}
			x.ms = append(x.ms, m)
		}
	}
	return nil
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
