package main

import (
	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
	"eproxy/internal/control"
	"eproxy/internal/explain"
	"eproxy/internal/output"
	"eproxy/internal/pinned"
	"eproxy/internal/topic"
)

// explainCommand says which path a client's next message would take.
func explainCommand() *cli.Command {
	return &cli.Command{
		Name: "explain", Usage: "which path a client's next message to a topic would take, and why; what it was refused last (needs a running loader)",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "client", Usage: "the client's `ID`", Required: true},
			&cli.StringFlag{Name: "topic", Usage: "the topic `NAME`", Required: true},
			&cli.IntFlag{Name: "qos", Usage: "the message's `QOS`, 0 to 2", Value: 1},
			&cli.IntFlag{Name: "size", Usage: "its payload's `BYTES`"},
			&cli.BoolFlag{Name: "retain", Usage: "it has RETAIN set"},
			&cli.BoolFlag{Name: "properties", Usage: "it has MQTT 5 properties that the kernel path does not take"},
			output.Flag(), cliutil.BPFFSFlag(),
		},
		Action: func(c *cli.Context) error {
			msg := explain.Message{Topic: c.String("topic"), QoS: c.Int("qos"), Size: c.Int("size"), Retain: c.Bool("retain"), Properties: c.Bool("properties")}
			if err := topic.ValidateName(msg.Topic); err != nil {
				return cliutil.Usagef("topic %q: %v", msg.Topic, err)
			}
			if msg.QoS < 0 || msg.QoS > 2 {
				return cliutil.Usagef("--qos %d: must be 0, 1 or 2", msg.QoS)
			}
			if msg.Size < 0 {
				return cliutil.Usagef("--size %d: must not be negative", msg.Size)
			}
			return withMaps(c, func(m *pinned.Maps) (*output.Rows, error) {
				server, err := control.Dial(c.String("bpffs")).Explain(c.Context, c.String("client"), msg.Topic)
				if err != nil {
					return nil, err
				}
				f, err := explain.Collect(m, msg, server)
				if err != nil {
					return nil, err
				}
				r := &output.Rows{Columns: []string{"what", "result", "why", "advice"}}
				for _, s := range explain.Of(f) {
					r.Add(s.Subject, s.Result, s.Why, s.Advice)
				}
				return r, nil
			})
		},
	}
}
