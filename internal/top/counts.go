package top

import (
	"cmp"
	"math"
	"slices"
)

// Count is a counter, or a gauge, summed up over all series that have the same values of some labels.
type Count struct {
	Values []string // of the labels
	Total  float64  // at the later reading
	Rate   float64  // growth per second
}

// Counts sums up a metric by labels, in the order of their values.
func Counts(a, b *Snapshot, name string, labels ...string) []Count {
	seconds := b.At.Sub(a.At).Seconds()
	sums := make(map[string]*Count)
	of := func(s series) *Count {
		key := s.of(labels)
		if sums[key] == nil {
			sums[key] = &Count{Values: s.values(labels)}
		}
		return sums[key]
	}
	for _, s := range b.of(name) {
		of(s).Total += s.value
	}
	for _, s := range grown(a, b, name) {
		of(s).Rate += s.value / seconds
	}
	out := make([]Count, 0, len(sums))
	for _, c := range sums {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(x, y Count) int { return slices.Compare(x.Values, y.Values) })
	return out
}

// Routes is what happened on the way from each route to each of its functions between two readings. Durations are the
// route's, to all its functions.
func Routes(a, b *Snapshot) []Row {
	rows := make(map[[2]string]*Row)
	kernel := make(map[[2]string]float64)
	took := durations(a, b, "eproxy_message_duration_seconds", "route")
	for _, c := range Counts(a, b, "eproxy_messages_total", "route", "function", "path", "outcome") {
		key := [2]string{c.Values[0], c.Values[1]}
		r := rows[key]
		if r == nil {
			r = newRow(Route, key[0], "")
			r.Function, r.Errors = key[1], 0
			r.P50, r.P99 = took[join(key[:1])].quantiles()
			rows[key] = r
		}
		r.Rate += c.Rate
		if c.Values[2] == "kernel" {
			kernel[key] += c.Rate
		}
		if c.Values[3] != "delivered" {
			r.Errors += c.Rate
		}
	}
	out := make([]Row, 0, len(rows))
	for key, r := range rows {
		if r.Rate > 0 {
			r.Share = 100 * kernel[key] / r.Rate
		}
		out = append(out, *r)
	}
	slices.SortFunc(out, func(x, y Row) int { return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.Function, y.Function)) })
	return out
}

// All is what happened to all messages between two readings.
func All(a, b *Snapshot) Row {
	r := newRow(Route, "", "")
	r.Errors = 0
	kernel := 0.0
	for _, x := range Routes(a, b) {
		r.Rate += x.Rate
		r.Errors += x.Errors
		if !math.IsNaN(x.Share) {
			kernel += x.Rate * x.Share
		}
	}
	if r.Rate > 0 {
		r.Share = kernel / r.Rate
	}
	r.P50, r.P99 = durations(a, b, "eproxy_message_duration_seconds")[join(nil)].quantiles()
	return *r
}
