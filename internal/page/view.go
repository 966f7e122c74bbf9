package page

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"eproxy/internal/config"
	"eproxy/internal/reason"
	"eproxy/internal/refusal"
	"eproxy/internal/top"
)

// How many lines of each kind are shown, the busiest first: a browser need not bear 10,000 routes.
const (
	maxRoutes    = 200
	maxFunctions = 200
	maxPods      = 500
)

// number is written as null where it is not known.
type number float64

// MarshalJSON writes a number to four digits behind the point.
func (n number) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, math.Round(float64(n)*1e4)/1e4, 'f', -1, 64), nil
}

// view is what the page shows.
type view struct {
	All       point          `json:"all"`
	Devices   []counted      `json:"devices"` // connections that the kernel path knows, by state
	Routes    []line         `json:"routes"`
	Functions []line         `json:"functions"`
	Pods      []line         `json:"pods"`
	Refused   []counted      `json:"refused"`
	Reasons   []counted      `json:"reasons"` // packets
	More      map[string]int `json:"more"`    // lines that are not shown, by kind
}

// point is all messages at a time, which is in milliseconds since 1970.
type point struct {
	At     int64  `json:"at"`
	Total  number `json:"total"`
	Rate   number `json:"rate"`
	Share  number `json:"share"`
	P50    number `json:"p50"`
	P99    number `json:"p99"`
	Errors number `json:"errors"`
}

// line is a route on its way to a function, a function, or a pod.
type line struct {
	Name     string `json:"name"`
	Function string `json:"function,omitempty"` // of a route or a pod
	Total    number `json:"total"`
	Rate     number `json:"rate"`
	InFlight number `json:"in_flight"`
	Waiting  number `json:"waiting"`
	P50      number `json:"p50"`
	P99      number `json:"p99"`
	Share    number `json:"share"`
	Errors   number `json:"errors"`

	State *State `json:"state,omitempty"` // of a function that the process runs, or scales
}

// counted is something with its meaning.
type counted struct {
	Name    string `json:"name"`
	Where   string `json:"where,omitempty"` // hook
	Meaning string `json:"meaning"`
	Total   number `json:"total"`
	Rate    number `json:"rate"`
}

// look makes the view of two readings; states are those of functions now.
func look(a, b *top.Snapshot, routes []*config.Route, states []State) *view {
	all := top.All(a, b)
	v := &view{More: make(map[string]int)}
	v.All = point{At: b.At.UnixMilli(), Rate: number(all.Rate), Share: number(all.Share), P50: number(all.P50), P99: number(all.P99), Errors: number(all.Errors)}
	for _, c := range top.Counts(a, b, "eproxy_messages_total") {
		v.All.Total = number(c.Total)
	}
	v.Routes = most(v.More, "routes", maxRoutes, routeLines(a, b, routes))
	functions, pods := lines(a, b, routes)
	functions = inStates(functions, states)
	v.Functions = most(v.More, "functions", maxFunctions, functions)
	v.Pods = most(v.More, "pods", maxPods, pods)
	for _, c := range top.Counts(a, b, "eproxy_flows", "state") {
		v.Devices = append(v.Devices, counted{Name: c.Values[0], Total: number(c.Total)})
	}
	for _, c := range top.Counts(a, b, "eproxy_refused_total", "reason") {
		v.Refused = append(v.Refused, counted{Name: c.Values[0], Meaning: refusal.Meanings[c.Values[0]], Total: number(c.Total), Rate: number(c.Rate)})
	}
	for _, c := range top.Counts(a, b, "eproxy_reasons_total", "hook", "reason") {
		if c.Total > 0 {
			v.Reasons = append(v.Reasons, counted{Name: c.Values[1], Where: c.Values[0], Meaning: meanings[c.Values[1]], Total: number(c.Total), Rate: number(c.Rate)})
		}
	}
	return v
}

// meanings are those of the programs' reasons.
var meanings = func() map[string]string {
	out := make(map[string]string, len(reason.All))
	for _, r := range reason.All {
		out[r.Name] = r.Text
	}
	return out
}()

func newLine(r top.Row, name, function string, total float64) line {
	return line{Name: name, Function: function, Total: number(total), Rate: number(r.Rate), InFlight: number(r.InFlight), Waiting: number(r.Waiting),
		P50: number(r.P50), P99: number(r.P99), Share: number(r.Share), Errors: number(r.Errors)}
}

// idle is what nothing has been counted of.
func idle(name, function string) line {
	n := number(math.NaN())
	return line{Name: name, Function: function, InFlight: n, Waiting: n, P50: n, P99: n, Share: n, Errors: n}
}

// routeLines are the ways from routes to functions: those of the configuration, and those that were there when their messages came.
func routeLines(a, b *top.Snapshot, routes []*config.Route) []line {
	totals := make(map[[2]string]float64)
	for _, c := range top.Counts(a, b, "eproxy_messages_total", "route", "function") {
		totals[[2]string(c.Values)] = c.Total
	}
	var out []line
	for _, r := range top.Routes(a, b) {
		out = append(out, newLine(r, r.Name, r.Function, totals[[2]string{r.Name, r.Function}]))
	}
	for _, r := range routes {
		for _, f := range r.Functions {
			if _, ok := totals[[2]string{r.Filter, f}]; !ok {
				out = append(out, idle(r.Filter, f))
				totals[[2]string{r.Filter, f}] = 0
			}
		}
	}
	return out
}

// lines are the functions and their pods.
func lines(a, b *top.Snapshot, routes []*config.Route) (functions, pods []line) {
	messages, requests := make(map[string]float64), make(map[[2]string]float64)
	for _, c := range top.Counts(a, b, "eproxy_messages_total", "function") {
		messages[c.Values[0]] = c.Total
	}
	for _, c := range top.Counts(a, b, "eproxy_function_requests_total", "function", "pod") {
		requests[[2]string(c.Values)] = c.Total
	}
	known := make(map[string]bool)
	for _, r := range top.Between(a, b) {
		switch r.Kind {
		case top.Function:
			functions = append(functions, newLine(r, r.Name, "", messages[r.Name]))
			known[r.Name] = true
		case top.Pod:
			pods = append(pods, newLine(r, r.Pod, r.Name, requests[[2]string{r.Name, r.Pod}]))
		}
	}
	for _, r := range routes {
		for _, f := range r.Functions {
			if !known[f] {
				functions = append(functions, idle(f, ""))
				known[f] = true
			}
		}
	}
	return functions, pods
}

// inStates are the functions with their states; one that no route leads to is there, too, as it may cost something.
func inStates(functions []line, states []State) []line {
	at := make(map[string]int, len(functions))
	for i := range functions {
		at[functions[i].Name] = i
	}
	for i := range states {
		s := &states[i]
		n, ok := at[s.Function]
		if !ok {
			n = len(functions)
			functions = append(functions, idle(s.Function, ""))
		}
		functions[n].State = s
	}
	return functions
}

// most are the busiest lines, by name; of how many more there are it takes a note.
func most(more map[string]int, kind string, n int, all []line) []line {
	if len(all) > n {
		slices.SortStableFunc(all, func(x, y line) int { return cmp.Or(cmp.Compare(y.Rate, x.Rate), cmp.Compare(y.Total, x.Total)) })
		more[kind] = len(all) - n
		all = all[:n]
	}
	slices.SortStableFunc(all, func(x, y line) int { return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.Function, y.Function)) })
	return all
}
