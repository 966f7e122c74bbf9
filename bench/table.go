package main

import (
	"fmt"
	"io"
	"sort"
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
	connections int
	m           map[string]map[string][]measurement // load, row
}

func newTable(rows []string, connections int) *table {
	return &table{rows: rows, connections: connections, m: make(map[string]map[string][]measurement)}
}

func (t *table) add(load, row string, m measurement) {
	if t.m[load] == nil {
		t.m[load] = make(map[string][]measurement)
	}
	t.m[load][row] = append(t.m[load][row], m)
}

// spread is the median of a figure with its extremes.
type spread struct{ low, median, high float64 }

func spreadOf(ms []measurement, f func(measurement) float64) spread {
	v := make([]float64, len(ms))
	for i, m := range ms {
		v[i] = f(m)
	}
	sort.Float64s(v)
	return spread{v[0], v[len(v)/2], v[len(v)-1]}
}

// ratio is the median over the rounds of a row's figure against the first row's
// of the same round.
func (t *table) ratio(load, row string, f func(measurement) float64) float64 {
	base, ms := t.m[load][t.rows[0]], t.m[load][row]
	v := make([]float64, len(ms))
	for i := range ms {
		v[i] = f(ms[i]) / f(base[i])
	}
	sort.Float64s(v)
	return v[len(v)/2]
}

// print writes one load's figures: medians, extremes, ratios to the first row.
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
	fmt.Fprintf(w, "\n%s, %d connections, %d rounds: median (low to high), ratio to %s\n", load, t.connections, len(t.m[load][t.rows[0]]), t.rows[0])
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
			fmt.Fprintf(tw, "\t%.1f (%.1f to %.1f)\t%.2f", s.median, s.low, s.high, t.ratio(load, row, f.f))
		}
		fmt.Fprintln(tw)
	}
	tw.Flush()
}
