package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
	"eproxy/internal/output"
	"eproxy/internal/pinned"
	"eproxy/internal/topic"
)

// testCommand says which route a topic takes, and why.
func testCommand() *cli.Command {
	return &cli.Command{
		Name: "test", Usage: "which route a topic takes, by which filter, and why not the others", ArgsUsage: "TOPIC",
		Flags: []cli.Flag{output.Flag(), cliutil.BPFFSFlag(), &cli.BoolFlag{Name: "all", Usage: "also routes that do not match"}},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return cliutil.Usagef("routes test takes one TOPIC")
			}
			name := c.Args().First()
			if err := topic.ValidateName(name); err != nil {
				return cliutil.Usagef("topic %q: %v", name, err)
			}
			return withMaps(c, func(m *pinned.Maps) (*output.Rows, error) {
				rows, wins, err := testTopic(m, name, c.Bool("all"))
				if err == nil && !wins {
					fmt.Fprintf(c.App.ErrWriter, "no route matches %q: it goes to subscribers alone\n", name)
				}
				return rows, err
			})
		},
	}
}

// testTopic are the routes with what becomes of each, and whether one wins.
func testTopic(m *pinned.Maps, name string, all bool) (r *output.Rows, wins bool, err error) {
	routes, err := m.Routes()
	if err != nil {
		return nil, false, err
	}
	filters := make([]string, len(routes))
	for i, x := range routes {
		filters[i] = x.Filter
	}
	table, err := topic.NewTable(filters)
	if err != nil {
		return nil, false, err
	}
	taken, err := m.Follow(strings.Split(name, "/"), strings.HasPrefix(name, "$"))
	if err != nil {
		return nil, false, err
	}
	r = &output.Rows{Columns: []string{"topic", "function", "result", "kernel", "why"}}
	for i, v := range table.Explain(name) {
		if !v.Matches && !all {
			continue
		}
		result := "no"
		if v.Wins {
			result, wins = "wins", true
		}
		r.Add(v.Filter, routes[i].Function, result, taken >= 0 && uint32(taken) == routes[i].Index, v.Why)
	}
	return r, wins, nil
}
