package main

import (
	"slices"

	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
)

// mayBeZero are the numbers and times that may be 0, where that means something. All others count or divide.
var mayBeZero = []string{"frozen", "limit", "most", "payload", "seeds", "steady"}

// checked refuses numbers and times of a command that nothing can be measured with, before anything is made.
func checked(flags []cli.Flag, measure cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		for _, f := range flags {
			if err := check(c, f); err != nil {
				return err
			}
		}
		return measure(c)
	}
}

// check refuses the value of a flag if it is a number or a time that is too small, or no number.
func check(c *cli.Context, f cli.Flag) error {
	name := f.Names()[0]
	var value float64
	switch f.(type) {
	case *cli.IntFlag:
		value = float64(c.Int(name))
	case *cli.Float64Flag:
		value = c.Float64(name)
	case *cli.DurationFlag:
		value = float64(c.Duration(name))
	default:
		return nil
	}
	switch zero := slices.Contains(mayBeZero, name); {
	case value > 0, value == 0 && zero:
		return nil
	case zero:
		return cliutil.Usagef("--%s %v: must not be less than 0", name, c.Value(name))
	}
	return cliutil.Usagef("--%s %v: must be more than 0", name, c.Value(name))
}
