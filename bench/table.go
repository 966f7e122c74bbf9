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
	own      float64 // of them, those of the process between devices and pods
	parts    float64 // the same of devices, pods and what is between: other loads on the machine are not in it
	rate     float64 // messages per second
	p50, p99 float64 // microseconds
	fair     float64 // of the connection that had the least in some second, over an equal share
}

type table struct {
	rows        []string
	floors      []string // rows that the others are compared with
	connections int
	m           map[string]map[string][]measurement // load, row
}

// newTable compares with the first row, with Go's own HTTP client and with the gateway if they are
// measured: the least that a call can cost, what it costs a device whose client nobody has tuned, and what
// stands there today at its best.
func newTable(rows []string, connections int) *table {
	t := &table{rows: rows, floors: rows[:1:1], connections: connections, m: make(map[string]map[string][]measurement)}
	for _, floor := range []string{rowNetHTTP, rowGateway} {
		if slices.Contains(rows[1:], floor) {
			t.floors = append(t.floors, floor)
		}
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

// rivalShare is the part of the first row's rate that the gateway has to reach: a slower one is no rival.
const rivalShare = 0.75

// rival is how much of the first row's rate the gateway reaches, and whether it counts.
func (t *table) rival(load string) (share float64, counts bool) {
	share = t.ratio(load, rowGateway, t.rows[0], func(m measurement) float64 { return m.rate })
	return share, share >= rivalShare
}

// print writes one load's figures: medians, extremes, ratios to the floors.
func (t *table) print(w io.Writer, load string) {
	figures := []struct {
		name     string
		f        func(measurement) float64
		compared bool
	}{
		{"cpu us/msg", func(m measurement) float64 { return m.cpu }, true},
		{"charged us/msg", func(m measurement) float64 { return m.parts }, true},
		{"process", func(m measurement) float64 { return m.own }, false},
		{"msg/s", func(m measurement) float64 { return m.rate }, true},
		{"p50 us", func(m measurement) float64 { return m.p50 }, true},
		{"p99 us", func(m measurement) float64 { return m.p99 }, true},
		{"least share", func(m measurement) float64 { return m.fair }, false},
	}
	floors := t.floors
	if slices.Contains(floors, rowGateway) {
		share, counts := t.rival(load)
		defer fmt.Fprintf(w, "%s reaches %.2f of %s's rate; it counts from %.2f on\n", rowGateway, share, t.rows[0], rivalShare)
		if !counts {
			floors = slices.DeleteFunc(slices.Clone(floors), func(f string) bool { return f == rowGateway })
		}
	}
	fmt.Fprintf(w, "\n%s, %d connections, %d rounds: median (low to high), ratio to %s\n", load, t.connections, len(t.m[load][t.rows[0]]), strings.Join(floors, " / to "))
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "row")
	for _, f := range figures {
		fmt.Fprintf(tw, "\t%s", f.name)
		if f.compared {
			fmt.Fprint(tw, "\tratio")
		}
	}
	fmt.Fprintln(tw)
	for _, row := range t.rows {
		fmt.Fprint(tw, row)
		for _, f := range figures {
			s := spreadOf(t.m[load][row], f.f)
			digits := 1
			if s.high < 10 {
				digits = 2
			}
			fmt.Fprintf(tw, "\t%.*f (%.*f to %.*f)", digits, s.median, digits, s.low, digits, s.high)
			if f.compared {
				fmt.Fprint(tw, "\t"+t.ratios(load, row, floors, f.f))
			}
		}
		fmt.Fprintln(tw)
	}
	tw.Flush()
}

// ratios are those to several rows.
func (t *table) ratios(load, row string, floors []string, f func(measurement) float64) string {
	ratios := make([]string, len(floors))
	for i, floor := range floors {
		ratios[i] = fmt.Sprintf("%.2f", t.ratio(load, row, floor, f))
	}
	return strings.Join(ratios, " / ")
}
