package main

import (
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
			&cli.IntFlag{Name: "rounds", Value: 7, Usage: "interleaved rounds `N`"},
			&cli.DurationFlag{Name: "duration", Value: 2 * time.Second, Usage: "length of one measurement"},
			&cli.IntFlag{Name: "connections", Value: 20, Usage: "devices `N`"},
			&cli.IntFlag{Name: "payload", Value: 64, Usage: "bytes"},
			&cli.StringFlag{Name: "modes", Value: "tc,xdp,auto", Usage: "of what; ratios are to the first"},
			&cli.StringFlag{Name: "loads", Value: "open200,open2000,open5000,closed1,closed50", Usage: "as of bench"},
		},
		Action: func(c *cli.Context) error { return inLab(c, (*bench).xdp) },
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

// xdp measures and prints load by load, for each kind of pods.
func (b *bench) xdp() error {
	modes := strings.Split(b.c.String("modes"), ",")
	idle, err := b.idle()
	if err != nil {
		return err
	}
	fmt.Fprintf(b.c.App.Writer, "idle machine: %.1f ms of processor time per second\n", idle*1000)
	for _, ld := range strings.Split(b.c.String("loads"), ",") {
		plan, err := b.plan(ld)
		if err != nil {
			return err
		}
		var of [2]map[string][]measurement // by kind of pods and mode
		for kind := range of {
			of[kind] = make(map[string][]measurement)
		}
		for round := range b.c.Int("rounds") {
			for k := range of {
				kind := (k + round) % len(of)
				if err := b.setGRO(podKinds[kind].gro); err != nil {
					return err
				}
				for i := range modes {
					mode := modes[(i+round)%len(modes)] // nobody always comes first
					m, err := b.measure(mode, plan, idle)
					if err != nil {
						return fmt.Errorf("%s, %s: %w", mode, ld, err)
					}
					of[kind][mode] = append(of[kind][mode], m)
				}
			}
		}
		for kind := range of {
			printXDP(b.c.App.Writer, fmt.Sprintf("%s, %s", ld, podKinds[kind].name), modes, of[kind])
		}
	}
	return nil
}

// setGRO switches GRO at the pods' ends.
func (b *bench) setGRO(on bool) error {
	for _, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
		if err := b.lab.Do(pod, func() error { return lab.SetGRO("eth0", on) }); err != nil {
			return fmt.Errorf("switch GRO of %s: %w", pod, err)
		}
	}
	return nil
}

// printXDP prints the medians of one load and one kind of pods, and the ratios to the
// first mode of the same round with their extremes.
func printXDP(w io.Writer, title string, modes []string, of map[string][]measurement) {
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
	fmt.Fprintf(w, "\n%s, %d rounds: median, ratio to %s (low to high)\n", title, len(of[modes[0]]), modes[0])
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "mode")
	for _, f := range figures {
		fmt.Fprint(tw, "\t", f.name, "\tratio")
	}
	fmt.Fprintln(tw)
	for _, mode := range modes {
		fmt.Fprint(tw, mode)
		for _, f := range figures {
			r := ratios(of[mode], of[modes[0]], f.f)
			fmt.Fprintf(tw, "\t%.1f\t%.2f (%.2f to %.2f)", spreadOf(of[mode], f.f).median, r.median, r.low, r.high)
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
