package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
	"eproxy/internal/output"
	"eproxy/internal/pinned"
)

// leastInterval is how often the maps may be read: a reading looks at every entry.
const leastInterval = 100 * time.Millisecond

// metricChange is what became of a metric in an interval.
type metricChange struct {
	Time   time.Time `json:"time"` // of the end of the interval
	Name   string    `json:"name"`
	Labels labelSet  `json:"labels"`
	Value  float64   `json:"value"`
	Change float64   `json:"change"`
	Rate   float64   `json:"per_second"`
}

// watchMetrics prints what changes from one reading to the next, until it is interrupted or for as many intervals as
// was asked for.
func watchMetrics(c *cli.Context) error {
	every, left := c.Duration("interval"), c.Int("count")
	if every < leastInterval {
		return cliutil.Usagef("--interval %s: must be at least %s", every, leastInterval)
	}
	if left < 0 {
		return cliutil.Usagef("--count %d: must not be negative", left)
	}
	show, err := changePrinter(c.App.Writer, c.String("output"))
	if err != nil {
		return err
	}
	before, at, err := takeSamples(c)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.App.ErrWriter, "looking at changes")
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-c.Context.Done():
			return nil // interrupted, which is how one without an end ends
		case <-tick.C:
		}
		after, now, err := takeSamples(c)
		if err != nil {
			return err
		}
		for _, x := range changes(before, after, at, now) {
			if err := show(x); err != nil {
				return err
			}
		}
		if left--; left == 0 {
			return nil
		}
		before, at = after, now
	}
}

// takeSamples reads the maps, which are others once the loader was started anew.
func takeSamples(c *cli.Context) ([]metricSample, time.Time, error) {
	m, err := pinned.Open(c.String("bpffs"))
	if err != nil {
		return nil, time.Time{}, err
	}
	defer m.Close()
	all, err := metricSamples(m)
	return all, time.Now(), err
}

// changes are the metrics whose numbers are others than before, in their order. A counter that has become less has begun
// again at 0.
func changes(before, after []metricSample, from, to time.Time) (all []metricChange) {
	was := make(map[string]float64, len(before))
	for _, s := range before {
		was[s.key()] = s.value
	}
	for _, s := range after {
		change := s.value - was[s.key()]
		if s.grows && change < 0 {
			change = s.value
		}
		if change != 0 {
			all = append(all, metricChange{to, s.name, s.labels, s.value, change, change / to.Sub(from).Seconds()})
		}
	}
	return all
}

func (s metricSample) key() string { return s.name + "{" + s.labels.String() + "}" }

// changePrinter prints changes in a form.
func changePrinter(w io.Writer, form string) (func(metricChange) error, error) {
	switch form {
	case "json":
		return func(x metricChange) error { return json.NewEncoder(w).Encode(x) }, nil
	case "table":
		const line = "%-12s  %12s  %12s  %14s  %s\n"
		if _, err := fmt.Fprintf(w, line, "TIME", "CHANGE", "PER_SECOND", "VALUE", "METRIC"); err != nil {
			return nil, err
		}
		return func(x metricChange) error {
			_, err := fmt.Fprintf(w, line, x.Time.Format("15:04:05.000"), number(x.Change), number(x.Rate), number(x.Value),
				output.Printable(metricSample{name: x.Name, labels: x.Labels}.key()))
			return err
		}, nil
	}
	return nil, cliutil.Usagef("-o %q: with --watch table or json", form)
}

// number has as many digits as tell something; numbers of messages are whole.
func number(v float64) string {
	digits := 6
	if math.Abs(v) >= 1 {
		digits = 1
	}
	if v == math.Trunc(v) {
		digits = 0
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}
