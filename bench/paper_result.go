package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// paperResult is all that was measured.
type paperResult struct {
	Kernel      string      `json:"kernel"`
	Processors  int         `json:"processors"`
	LoadBefore  string      `json:"load_before"` // /proc/loadavg
	LoadAfter   string      `json:"load_after"`
	Idle        float64     `json:"idle"` // processor time of the machine by itself, seconds per second
	Connections int         `json:"connections"`
	Payload     int         `json:"payload"`
	Rate        float64     `json:"rate"`
	Cut         string      `json:"cut,omitempty"` // the limit that left less than was asked for
	Rows        []*paperRow `json:"rows"`
}

// paperRow is one chain.
type paperRow struct {
	Name      string     `json:"name"`
	Chain     string     `json:"chain"`
	Missing   string     `json:"missing,omitempty"`
	Rounds    []paperRun `json:"rounds,omitempty"`
	Delays    []paperRun `json:"delays,omitempty"`
	Saturated float64    `json:"saturated,omitempty"` // rate that it did not carry; 0: it carried all
}

func newPaperResult(c *cli.Context) *paperResult {
	var u unix.Utsname
	_ = unix.Uname(&u)
	return &paperResult{
		Kernel: unix.ByteSliceToString(u.Release[:]), Processors: runtime.NumCPU(), LoadBefore: loadAverage(),
		Connections: c.Int("connections"), Payload: c.Int("payload"), Rate: c.Float64("rate"),
	}
}

// median of a figure over the rounds.
func (r *paperRow) median(f func(paperRun) float64) float64 { return spreadOf(r.Rounds, f).median }

// part is the median of a component.
func (r *paperRow) part(name string) float64 {
	return r.median(func(m paperRun) float64 { return m.Parts[name] })
}

func chargedOf(m paperRun) float64 { return m.Charged }

func machineOf(m paperRun) float64 { return m.Machine }

// carries is the highest rate at which the row was not saturated.
func (r *paperRow) carries() string {
	best := 0.0
	for _, m := range r.Delays {
		if r.Saturated == 0 || m.Offered < r.Saturated {
			best = max(best, m.Offered)
		}
	}
	return fmt.Sprintf("%.0f", best)
}

// paperRatio is a row's figure by the baseline's of the same rounds: median and quartiles.
func paperRatio(row, base *paperRow, f func(paperRun) float64) spread {
	v := make([]float64, len(row.Rounds))
	for i := range v {
		v[i] = f(row.Rounds[i]) / f(base.Rounds[i])
	}
	slices.Sort(v)
	return spread{v[len(v)/4], v[len(v)/2], v[len(v)*3/4]}
}

// disturbed is how much of its processors a machine may use by itself, so that what it uses in all says something about
// the chains.
const disturbed = 0.05

// quiet says whether the whole machine's processor time, and so what is left as other, means anything.
func (p *paperResult) quiet() bool { return p.Idle <= disturbed*float64(p.Processors) }

// has says whether a row was measured.
func (r *paperRow) has() bool { return len(r.Rounds) > 0 }

// print writes the tables.
func (p *paperResult) print(w io.Writer) {
	fmt.Fprintf(w, "\nprocessor time per message, us, at %.0f messages per second, %d devices, %d bytes: medians of the rounds; load %s before, %s after\n",
		p.Rate, p.Connections, p.Payload, p.LoadBefore, p.LoadAfter)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if p.Cut != "" {
		fmt.Fprintf(w, "not all was measured within %s\n", p.Cut)
	}
	if !p.quiet() {
		fmt.Fprintf(w, "something else used %.2f of %d processors: total and other are unknown\n", p.Idle, p.Processors)
	}
	fmt.Fprint(tw, "row")
	for _, part := range paperParts {
		fmt.Fprint(tw, "\t", part)
	}
	fmt.Fprintln(tw, "\ttotal\twithout other\tratio (quartiles)\tin kernel mode\tdelay p50\tp99\tanswered p50")
	for _, r := range p.Rows {
		p.printRow(tw, r)
	}
	_ = tw.Flush()
	p.printDelays(w)
}

func (p *paperResult) printRow(w io.Writer, r *paperRow) {
	if !r.has() {
		fmt.Fprintf(w, "%s\t%s\n", r.Name, r.Missing)
		return
	}
	fmt.Fprint(w, r.Name)
	for _, part := range paperParts {
		if part == partOther && !p.quiet() {
			fmt.Fprint(w, "\t?")
			continue
		}
		fmt.Fprintf(w, "\t%.0f", r.part(part))
	}
	ratio := "-"
	if base := p.base(); base != nil {
		s := paperRatio(r, base, chargedOf)
		ratio = fmt.Sprintf("%.2f (%.2f to %.2f)", s.median, s.low, s.high)
	}
	total := "?"
	if p.quiet() {
		total = fmt.Sprintf("%.0f", r.median(machineOf))
	}
	fmt.Fprintf(w, "\t%s\t%.0f\t%s\t%.0f\t%.0f\t%.0f\t%.0f\n", total, r.median(chargedOf), ratio,
		r.median(func(m paperRun) float64 { return m.Kernel }), r.median(func(m paperRun) float64 { return m.P50 }),
		r.median(func(m paperRun) float64 { return m.P99 }), r.median(func(m paperRun) float64 { return m.Answered }))
}

// base is the first row that was measured; others are compared with it.
func (p *paperResult) base() *paperRow {
	for _, r := range p.Rows {
		if r.has() {
			return r
		}
	}
	return nil
}

// printDelays writes delay over load, if that was measured.
func (p *paperResult) printDelays(w io.Writer) {
	if base := p.base(); base == nil || len(base.Delays) == 0 {
		return
	}
	fmt.Fprintln(w, "\ndelay over load, p50 / p99 us at each rate of messages per second; the last one of a row may be beyond what it carries")
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "row\tcarries")
	var longest []paperRun
	for _, r := range p.Rows {
		if len(r.Delays) > len(longest) {
			longest = r.Delays
		}
	}
	for _, m := range longest {
		fmt.Fprintf(tw, "\t%.0f", m.Offered)
	}
	fmt.Fprintln(tw)
	for _, r := range p.Rows {
		if !r.has() {
			fmt.Fprintf(tw, "%s\t%s\n", r.Name, r.Missing)
			continue
		}
		fmt.Fprintf(tw, "%s\t%s", r.Name, r.carries())
		for _, m := range r.Delays {
			fmt.Fprintf(tw, "\t%.0f / %.0f", m.P50, m.P99)
		}
		fmt.Fprintln(tw)
	}
	_ = tw.Flush()
}

// write writes the results to a directory, if any.
func (p *paperResult) write(dir string) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range []struct {
		name  string
		write func(io.Writer) error
	}{
		{"paper.json", func(w io.Writer) error {
			e := json.NewEncoder(w)
			e.SetIndent("", " ")
			return e.Encode(p)
		}},
		{"cpu.svg", p.drawParts},
		{"delay.svg", p.drawDelays},
	} {
		if err := writeFile(filepath.Join(dir, f.name), f.write); err != nil {
			return err
		}
	}
	return nil
}
