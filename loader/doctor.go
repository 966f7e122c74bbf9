package main

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/urfave/cli/v2"

	"eproxy/internal/config"
	"eproxy/internal/doctor"
	"eproxy/internal/endpoints"
	"eproxy/internal/kube"
	"eproxy/internal/output"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "what this kernel and these interfaces allow; exit 1 when eproxy cannot run",
		Flags: []cli.Flag{&cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "also look at the interfaces and pods of `FILE`"}, output.Flag()},
		Action: func(c *cli.Context) error {
			var cfg *config.Config
			if f := c.String("config"); f != "" {
				var err error
				if cfg, err = config.Load(f, config.NeedInterfaces); err != nil {
					return err
				}
			}
			var said []endpoints.Said
			var local []doctor.Feature
			if cfg != nil {
				local = doctor.Instances(cfg)
				cfg, said = endpoints.Look(c.Context, cfg, kube.New(cfg.Kubernetes, slog.New(slog.DiscardHandler)))
			}
			rows := &output.Rows{Columns: []string{"feature", "state", "detail"}}
			missing := 0
			for _, f := range append(doctor.Examine(cfg), local...) {
				rows.Add(f.Name, f.State, f.Detail)
				if f.State == doctor.Missing {
					missing++
				}
			}
			for _, s := range said {
				state := doctor.Used
				if s.Err != nil {
					state = doctor.Degraded
				}
				rows.Add("source of "+s.Function, state, s.Source+": "+sourceSays(s))
			}
			if err := rows.Print(c); err != nil {
				return err
			}
			if missing == 1 {
				return errors.New("one feature that eproxy cannot do without is missing")
			} else if missing > 1 {
				return fmt.Errorf("%d features that eproxy cannot do without are missing", missing)
			}
			return nil
		},
	}
}
