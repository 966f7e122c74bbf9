package main

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"
)

// linkRun is one run of a row in a cell.
type linkRun struct {
	Seed         uint64  `json:"seed"`
	Unfinished   bool    `json:"unfinished,omitempty"` // Seconds is the bound
	Messages     int     `json:"messages"`
	Acknowledged int     `json:"acknowledged"`
	Taken        int     `json:"taken"` // by the programs
	Packets      int     `json:"packets"`
	Lost         int     `json:"lost"` // of them, both directions
	Seconds      float64 `json:"seconds"`
	P50          float64 `json:"p50_seconds"`
	P99          float64 `json:"p99_seconds"`
	LinkLate     float64 `json:"link_late_seconds"` // what 99 of 100 packets stayed below: how well the link kept its delay
}

// leftPerLoss is how many messages left the kernel path for each packet lost.
func (r linkRun) leftPerLoss() float64 {
	if r.Lost == 0 {
		return 0
	}
	return float64(r.Messages-r.Taken) / float64(r.Lost)
}

// linkResult are all runs of a cell.
type linkResult struct {
	Cell cell                 `json:"cell"`
	Rows []string             `json:"rows"`
	Runs map[string][]linkRun `json:"runs"`
}

func (r *linkResult) unfinished(row string) (n int) {
	for _, x := range r.Runs[row] {
		if x.Unfinished {
			n++
		}
	}
	return n
}

// linkFigures are what rows are compared by. A run that did not finish took
// forever.
var linkFigures = []struct {
	name  string
	scale float64
	f     func(linkRun) float64
}{
	{"time s", 1, func(r linkRun) float64 { return forever(r, r.Seconds) }},
	{"p50 ms", 1000, func(r linkRun) float64 { return forever(r, r.P50) }},
	{"p99 ms", 1000, func(r linkRun) float64 { return forever(r, r.P99) }},
}

func forever(r linkRun, v float64) float64 {
	if r.Unfinished {
		return math.Inf(1)
	}
	return v
}

// wanted is the largest ratio of medians that is as good as the kernel's own TCP.
const wanted = 1.1

// ratio is a row's median against the first row's.
func (r *linkResult) ratio(row string, f func(linkRun) float64) float64 {
	return spreadOf(r.Runs[row], f).median / spreadOf(r.Runs[r.Rows[0]], f).median
}

func (r *linkResult) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s: median (low to high) of %d seeds, ratio to %s\n", r.Cell, len(r.Runs[r.Rows[0]]), r.Rows[0])
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "row")
	for _, f := range linkFigures {
		fmt.Fprintf(tw, "\t%s\tratio", f.name)
	}
	fmt.Fprint(tw, "\tin the kernel\tleft per loss\tunfinished\n")
	for _, row := range r.Rows {
		runs := r.Runs[row]
		fmt.Fprint(tw, row)
		for _, f := range linkFigures {
			s := spreadOf(runs, f.f)
			fmt.Fprintf(tw, "\t%s (%s to %s)\t%s", figure(s.median*f.scale), figure(s.low*f.scale), figure(s.high*f.scale), figure(r.ratio(row, f.f)))
		}
		if row == rowFallback || row == rowControl {
			fmt.Fprintf(tw, "\t-\t-\t%s\n", unfinishedText(runs))
			continue
		}
		share := spreadOf(runs, func(r linkRun) float64 { return 100 * float64(r.Taken) / float64(r.Messages) })
		left := spreadOf(runs, linkRun.leftPerLoss)
		fmt.Fprintf(tw, "\t%.1f %%\t%.1f\t%s\n", share.median, left.median, unfinishedText(runs))
	}
	tw.Flush()
	var late float64
	for _, runs := range r.Runs {
		for _, x := range runs {
			late = max(late, x.LinkLate)
		}
	}
	fmt.Fprintf(w, "the link: in the worst run 1 of 100 packets was %s ms late or more\n", figure(1000*late))
}

// figure is a number in a table.
func figure(v float64) string {
	switch {
	case math.IsInf(v, 0) || math.IsNaN(v):
		return "-"
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// unfinishedText says how many runs did not finish, and how far they came.
func unfinishedText(runs []linkRun) string {
	n, done, all := 0, 0, 0
	for _, r := range runs {
		if r.Unfinished {
			n++
			done += r.Acknowledged
			all += r.Messages
		}
	}
	if n == 0 {
		return "0"
	}
	return fmt.Sprintf("%d of %d: %d of %d messages", n, len(runs), done, all)
}

// summary says of each row how many ratios are as wanted, how many as much below 1, and which is worst.
func summary(w io.Writer, results []*linkResult) {
	tallies := make(map[string]*tally)
	var rows []string
	for _, r := range results {
		for _, row := range r.Rows[1:] {
			if tallies[row] == nil {
				tallies[row] = &tally{}
				rows = append(rows, row)
			}
			tallies[row].add(r, row)
		}
	}
	for _, row := range rows {
		t := tallies[row]
		fmt.Fprintf(w, "\n%s: %d of %d ratios are at most %.1f, %d below %.2f; the worst is %s: %s\n", row, t.good, t.all, wanted, t.low, 1/wanted, figure(t.worst), t.where)
	}
}

// tally counts a row's ratios.
type tally struct {
	good, low, all int
	worst          float64
	where          string
}

func (t *tally) add(r *linkResult, row string) {
	for _, f := range linkFigures {
		q := r.ratio(row, f.f)
		t.all++
		if q <= wanted {
			t.good++
		}
		if q < 1/wanted {
			t.low++
		}
		if q > t.worst {
			t.worst, t.where = q, fmt.Sprintf("%s at %s", f.name, r.Cell)
		}
	}
}
