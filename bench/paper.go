package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
	"eproxy/test/lib/load"
)

// paperCommand measures what a message costs with the proxies and adaptors that eproxy replaces.
func paperCommand() *cli.Command {
	return &cli.Command{
		Name: "paper", Usage: "processor time per component, and delay over load up to saturation, of chains with Knative's queue-proxy, a broker and adaptors, and of eproxy",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "rows", Value: strings.Join(chainNames(), ","), Usage: "which chains"},
			&cli.IntFlag{Name: "rounds", Value: 8, Usage: "interleaved rounds `N` of the table"},
			&cli.DurationFlag{Name: "duration", Value: time.Second, Usage: "length of one measurement"},
			&cli.Float64Flag{Name: "rate", Value: 500, Usage: "messages per second of the table, and the least one of the delays"},
			&cli.Float64Flag{Name: "most", Value: 32000, Usage: "messages per second up to which the rate is doubled; 0: no delays over load"},
			&cli.IntFlag{Name: "connections", Value: 20, Usage: "devices `N`"},
			&cli.IntFlag{Name: "payload", Value: 64, Usage: "bytes, at least 16"},
			&cli.DurationFlag{Name: "limit", Value: 5 * time.Minute, Usage: "begin no more rounds and rates after this `TIME`; 0: none"},
			&cli.PathFlag{Name: "bin", Value: "bin/paper", Usage: "`DIR` of queue-proxy and the adaptor in Go"},
			&cli.PathFlag{Name: "node", Value: "bench/paper/adaptor", Usage: "`DIR` of the adaptor in Node and its packages"},
			&cli.PathFlag{Name: "out", Usage: "`DIR` for paper.json, cpu.svg and delay.svg; none: the table alone"},
		},
		Action: paper,
	}
}

func paper(c *cli.Context) (err error) {
	if c.Int("payload") < load.StampLength {
		return cliutil.Usagef("--payload %d: at least %d, for the time of sending", c.Int("payload"), load.StampLength)
	}
	p, err := startPaper(c)
	defer func() { err = errors.Join(err, p.close()) }()
	if err != nil {
		return err
	}
	if err := p.measure(); err != nil {
		return err
	}
	p.result.LoadAfter = loadAverage()
	p.result.print(c.App.Writer)
	return p.result.write(c.Path("out"))
}

// papers are all chains of a measurement, which are up at the same time and loaded in turn.
type papers struct {
	c      *cli.Context
	chains []*chain
	result *paperResult
	began  time.Time
	idle   float64 // processor time of the machine by itself, seconds per second
}

// measure makes all measurements for which there is time.
func (p *papers) measure() error {
	if err := p.table(); err != nil {
		return err
	}
	if p.c.Float64("most") == 0 {
		return nil
	}
	return p.ramp()
}

// late says whether the time is over.
func (p *papers) late() bool {
	limit := p.c.Duration("limit")
	if limit == 0 || time.Since(p.began) < limit {
		return false
	}
	p.say("the time is over")
	p.result.Cut = limit.String()
	return true
}

// startPaper starts all chains. It is to be closed also after an error.
func startPaper(c *cli.Context) (*papers, error) {
	p := &papers{c: c, began: time.Now(), result: newPaperResult(c)}
	for _, name := range strings.Split(c.String("rows"), ",") {
		k := slices.IndexFunc(chainKinds, func(k chainKind) bool { return k.name == name })
		if k < 0 {
			return p, cliutil.Usagef("--rows %q: none of %s", name, strings.Join(chainNames(), ", "))
		}
		p.say("starting %s", name)
		x, err := startChain(c, &chainKinds[k])
		row := &paperRow{Name: name, Chain: chainKinds[k].text}
		p.result.Rows = append(p.result.Rows, row)
		if errors.Is(err, errMissing) {
			row.Missing = err.Error()
			p.say("%s is missing: %v", name, err)
			continue
		}
		if x != nil {
			x.row = row
			p.chains = append(p.chains, x)
		}
		if err != nil {
			return p, fmt.Errorf("%s: %w", name, err)
		}
	}
	if len(p.chains) == 0 {
		return p, errors.New("none of the chains can be had")
	}
	var err error
	p.idle, err = p.chains[0].idle()
	p.result.Idle = p.idle
	return p, err
}

func (p *papers) close() (err error) {
	for _, x := range slices.Backward(p.chains) {
		err = errors.Join(err, x.stop())
	}
	return err
}

// say writes progress, apart from the result.
func (p *papers) say(format string, a ...any) {
	fmt.Fprintf(p.c.App.ErrWriter, "%s "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, a...)...)
}

// table measures the processor time of all chains at the same rate.
func (p *papers) table() error {
	rounds, rate := p.c.Int("rounds"), p.c.Float64("rate")
	for round := range rounds {
		if round > 0 && p.late() {
			return nil
		}
		p.say("round %d of %d, %.0f messages per second", round+1, rounds, rate)
		for i := range p.chains {
			x := p.chains[(i+round)%len(p.chains)] // nobody always comes first
			m, err := x.measure(rate, p.idle)
			if err != nil {
				return fmt.Errorf("%s: %w", x.row.Name, err)
			}
			x.row.Rounds = append(x.row.Rounds, m)
		}
	}
	return nil
}

// carried is the part of the offered messages that a chain must carry in time to count as not saturated, and
// tolerated the median of delays.
const (
	carried   = 0.95
	tolerated = 1e6 // microseconds
)

// ramp doubles the rate until a chain is saturated.
func (p *papers) ramp() error {
	going := slices.Clone(p.chains)
	for rate := p.c.Float64("rate"); rate <= p.c.Float64("most") && len(going) > 0 && !p.late(); rate *= 2 {
		p.say("delays at %.0f messages per second, %d chains", rate, len(going))
		going = slices.DeleteFunc(going, func(x *chain) bool {
			return p.c.Context.Err() != nil || !p.carries(x, rate)
		})
	}
	return p.c.Context.Err()
}

// attempts is how often a chain may try to carry a rate: what else the machine does may have been in its way.
const attempts = 3

// carries measures a chain at a rate that it may not carry.
func (p *papers) carries(x *chain, rate float64) bool {
	var m paperRun
	var err error
	for range attempts {
		if m, err = x.measure(rate, p.idle); err == nil && m.Rate >= carried*rate && m.P50 <= tolerated {
			x.row.Delays = append(x.row.Delays, m)
			return true
		}
		if p.c.Context.Err() != nil {
			return false
		}
	}
	x.row.Saturated = rate
	if err != nil {
		p.say("%s does not carry %.0f messages per second: %v", x.row.Name, rate, err)
	} else {
		p.say("%s does not carry %.0f messages per second: %.0f arrived, after %.1f ms", x.row.Name, rate, m.Rate, m.P50/1000)
		x.row.Delays = append(x.row.Delays, m)
	}
	return false
}

// loadAverage is what /proc/loadavg says.
func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// writeFile writes a file of the results.
func writeFile(path string, f func(io.Writer) error) (err error) {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	return f(out)
}
