package main

import (
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"text/tabwriter"
)

// measurement is one row's load, once.
type measurement struct {
	cpu      float64 // microseconds of the whole machine per message
	rate     float64 // messages per second
	p50, p99 float64 // microseconds
}

type table struct {
	rows        []string
	floors      []string // rows that the others are compared with
	connections int
	m           map[string]map[string][]measurement // load, row
}

// newTable compares with the first row, and with Go's own HTTP client if it is
// measured: the least that a call can cost, and what it costs a device whose
// client nobody has tuned.
func newTable(rows []string, connections int) *table {
	t := &table{rows: rows, floors: rows[:1], connections: connections, m: make(map[string]map[string][]measurement)}
	if slices.Contains(rows[1:], rowNetHTTP) {
		t.floors = []string{rows[0], rowNetHTTP}
	}
	return t
}

func (t *table) add(load, row string, m measurement) {
	if t.m[load] == nil {
		t.m[load] = make(map[string][]measurement)
	}
	t.m[load][row] = append(t.m[load][row], m)
}

// spread is the median of a figure with its extremes.
type spread struct{ low, median, high float64 }

func spreadOf[M any](ms []M, f func(M) float64) spread {
	v := make([]float64, len(ms))
	for i, m := range ms {
		v[i] = f(m)
	}
	sort.Float64s(v)
	return spread{v[0], v[len(v)/2], v[len(v)-1]}
}

// ratio is the median over the rounds of a row's figure against the floor's of
// the same round.
func (t *table) ratio(load, row, floor string, f func(measurement) float64) float64 {
	base, ms := t.m[load][floor], t.m[load][row]
	v := make([]float64, len(ms))
	for i := range ms {
		v[i] = f(ms[i]) / f(base[i])
	}
	sort.Float64s(v)
	return v[len(v)/2]
}

// print writes one load's figures: medians, extremes, ratios to the floors.
func (t *table) print(w io.Writer, load string) {
	figures := []struct {
		name string
		f    func(measurement) float64
	}{
		{"cpu us/msg", func(m measurement) float64 { return m.cpu }},
		{"msg/s", func(m measurement) float64 { return m.rate }},
		{"p50 us", func(m measurement) float64 { return m.p50 }},
		{"p99 us", func(m measurement) float64 { return m.p99 }},
	}
	fmt.Fprintf(w, "\n%s, %d connections, %d rounds: median (low to high), ratio to %s\n", load, t.connections, len(t.m[load][t.rows[0]]), strings.Join(t.floors, " / to "))
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "row")
	for _, f := range figures {
		fmt.Fprintf(tw, "\t%s\tratio", f.name)
	}
	fmt.Fprintln(tw)
	for _, row := range t.rows {
		fmt.Fprint(tw, row)
		for _, f := range figures {
			s := spreadOf(t.m[load][row], f.f)
			ratios := make([]string, len(t.floors))
			for i, floor := range t.floors {
				ratios[i] = fmt.Sprintf("%.2f", t.ratio(load, row, floor, f.f))
			}
			fmt.Fprintf(tw, "\t%.1f (%.1f to %.1f)\t%s", s.median, s.low, s.high, strings.Join(ratios, " / "))
		}
		fmt.Fprintln(tw)
	}
	tw.Flush()
}
