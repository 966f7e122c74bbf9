package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"eproxy/internal/config"
	"eproxy/internal/doctor"
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
			rows := &output.Rows{Columns: []string{"feature", "state", "detail"}}
			missing := 0
			for _, f := range doctor.Examine(cfg) {
				rows.Add(f.Name, f.State, f.Detail)
				if f.State == doctor.Missing {
					missing++
				}
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
