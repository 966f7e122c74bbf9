package simulate

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// hours of something in seconds, as a cell.
func hours(seconds float64) string { return fmt.Sprintf("%.1f", seconds/3600) }

func percent(share float64) string { return fmt.Sprintf("%.2f", 100*share) }

// wait as a cell.
func wait(d time.Duration) string {
	switch {
	case d == 0:
		return "0"
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.2f ms", d.Seconds()*1000)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func (c Coverage) String() string {
	if c.Judged == 0 {
		return ""
	}
	return percent(float64(c.Covered) / float64(c.Judged))
}

// head of a Markdown table.
func head(w io.Writer, columns ...string) {
	fmt.Fprintf(w, "| %s |\n|---|%s\n", strings.Join(columns, " | "), strings.Repeat("--:|", len(columns)-1))
}

func row(w io.Writer, cells ...string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }

// WriteTable writes one class, a row a policy.
func WriteTable(w io.Writer, class string, all []*Summary) {
	first := true
	for _, s := range all {
		if s.Class != class {
			continue
		}
		if first {
			fmt.Fprintf(w, "\n### %s: %d functions, %d arrivals in the test half\n\n", class, s.Functions, s.Arrivals)
			head(w, "policy", "cold %", "p75 function", "p90", "worst", "idle h", "MB h", "starts", "added p99", "expected in interval %", "cost h", "beaten in both by")
			first = false
		}
		name, beaten := s.Policy, strings.Join(s.Dominators(all), ", ")
		if s.Reference {
			name, beaten = "*"+name+"*", "reference"
		}
		row(w, name, percent(s.ColdRate()), percent(s.P75), percent(s.P90), percent(s.Worst), hours(s.Idle.Seconds()), hours(s.Held),
			fmt.Sprint(s.Starts), wait(s.Wait), s.Expected.String(), hours(s.Cost), beaten)
	}
}

// WriteScaling writes what the floor does for functions with many instances.
func WriteScaling(w io.Writer, all []*Summary) {
	head(w, "load", "scaler", "calls", "waited %", "added p99", "idle instance-h", "starts", "floor not exceeded %")
	for _, s := range all {
		row(w, s.Class, s.Policy, fmt.Sprint(s.Arrivals), percent(s.ColdRate()), wait(s.Wait), hours(s.Idle.Seconds()), fmt.Sprint(s.Starts), s.Expected.String())
	}
}

// Swept is what a policy did with a value of lambda.
type Swept struct {
	Lambda time.Duration
	*Summary
}

// WriteLambda writes what the knob does: cold starts and idle time.
func WriteLambda(w io.Writer, classes []string, all []Swept) {
	columns := []string{"load", "policy"}
	for _, s := range all {
		if s.Class == classes[0] && s.Policy == all[0].Policy {
			columns = append(columns, fmt.Sprintf("lambda %v: cold %%, idle h", s.Lambda))
		}
	}
	head(w, columns...)
	for _, class := range classes {
		cells := make(map[string][]string)
		var policies []string
		for _, s := range all {
			if s.Class != class {
				continue
			}
			if cells[s.Policy] == nil {
				policies = append(policies, s.Policy)
				cells[s.Policy] = []string{class, s.Policy}
			}
			cells[s.Policy] = append(cells[s.Policy], percent(s.ColdRate())+", "+hours(s.Idle.Seconds()))
		}
		for _, p := range policies {
			row(w, cells[p]...)
		}
	}
}

// BudgetRow is what became of functions with a part of the memory that all take.
type BudgetRow struct {
	Share         float64
	Policy, Order string
	Budgeted
}

// WriteBudgets writes them.
func WriteBudgets(w io.Writer, rows []BudgetRow) {
	head(w, "memory %", "policy", "who goes", "cold %", "evicted", "beyond the budget", "MB h")
	for _, r := range rows {
		row(w, fmt.Sprintf("%.0f", 100*r.Share), r.Policy, r.Order, percent(float64(r.Cold)/float64(max(1, r.Arrivals))),
			fmt.Sprint(r.Evicted), fmt.Sprint(r.Short), hours(r.Held))
	}
}
