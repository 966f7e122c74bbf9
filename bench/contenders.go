package main

import (
	"errors"
	"fmt"
	"strings"

	"eproxy/test/lib/lab"
)

// contender is eproxy in a mode, in a lab of its own. All of them are up at the same
// time and loaded in turn, so that what else the machine does meets them alike.
type contender struct {
	*bench
	mode   string
	kind   int // of pods
	loader *lab.Process
	ms     []measurement
}

// retire ends contenders, also such as have not begun.
func retire(all []*contender) (err error) {
	for _, x := range all {
		if x.loader != nil {
			err = errors.Join(err, x.loader.Stop())
		}
		x.close()
	}
	return err
}

// contest has all contenders make each of the loads, and has the results of each shown.
func contest(all []*contender, show func(load string)) error {
	c := all[0].c
	idle, err := all[0].idle()
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "idle machine: %.1f ms of processor time per second\n", idle*1000)
	for _, load := range strings.Split(c.String("loads"), ",") {
		if err := race(all, load, idle); err != nil {
			return fmt.Errorf("%s: %w", load, err)
		}
		show(load)
	}
	return nil
}

// race has each contender make a load in turn, as often as there are rounds.
func race(all []*contender, name string, idle float64) error {
	plan, err := all[0].plan(name)
	if err != nil {
		return err
	}
	for _, x := range all {
		x.ms = nil
	}
	for round := range all[0].c.Int("rounds") {
		for i := range all {
			x := all[(i+round)%len(all)] // nobody always comes first
			m, err := x.load(x.mqtt(plan), x.loader, plan, idle)
			if err != nil {
				return fmt.Errorf("%s: %w", x.mode, err)
			}
			x.ms = append(x.ms, m)
		}
	}
	return nil
}
