package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
	"eproxy/internal/control"
)

// verb is a command that has the running loader change something. Its arguments are
// named by args, and go into the change by into, in this order.
func verb(name, usage, args string, into func(*control.Change) []*string) *cli.Command {
	words := strings.Fields(name)
	return &cli.Command{
		Name: words[len(words)-1], Usage: usage + " (needs a running loader)", ArgsUsage: args,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "save", Usage: "change the configuration file as well, else it is until the next reload"},
			cliutil.BPFFSFlag(),
		},
		Action: func(c *cli.Context) error {
			x := control.Change{Verb: name, Save: c.Bool("save")}
			places := into(&x)
			if c.NArg() != len(places) {
				return cliutil.Usagef("%s takes %s", name, args)
			}
			for i, to := range places {
				*to = c.Args().Get(i)
			}
			return control.Dial(c.String("bpffs")).Change(c.Context, x)
		},
	}
}

func podVerbs() []*cli.Command {
	into := func(x *control.Change) []*string { return []*string{&x.Function, &x.Pod} }
	return []*cli.Command{
		verb(control.PodsAdd, "give a function one more pod, or one back that is drained", "FUNCTION ADDRESS:PORT", into),
		verb(control.PodsDrain, "send a pod nothing more; what it has in flight ends", "FUNCTION ADDRESS:PORT", into),
		verb(control.PodsDelete, "take a pod from those that the configuration lists; what it has in flight ends", "FUNCTION ADDRESS:PORT", into),
	}
}

func routeVerbs() []*cli.Command {
	return []*cli.Command{
		verb(control.RoutesAdd, "route one more topic filter to a function", "TOPIC FUNCTION", func(x *control.Change) []*string { return []*string{&x.Topic, &x.Function} }),
		verb(control.RoutesDelete, "route a topic filter no more", "TOPIC", func(x *control.Change) []*string { return []*string{&x.Topic} }),
	}
}

func functionVerbs() []*cli.Command {
	into := func(x *control.Change) []*string { return []*string{&x.Function} }
	return []*cli.Command{
		verb(control.FunctionsPause, "have a function's messages wait", "FUNCTION", into),
		verb(control.FunctionsResume, "go on with them", "FUNCTION", into),
	}
}
