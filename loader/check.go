package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"eproxy/internal/bpf"
	"eproxy/internal/cliutil"
	"eproxy/internal/config"
	"eproxy/internal/request"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "validate a configuration; say which way each function's messages go",
		Flags: []cli.Flag{cliutil.ConfigFlag()},
		Action: func(c *cli.Context) error {
			cfg, err := config.Load(c.String("config"))
			if err != nil {
				return err
			}
			for _, fn := range cfg.Functions {
				fmt.Fprintf(c.App.Writer, "function %s: %s\n", fn.Name, way(cfg, fn))
			}
			fmt.Fprintf(c.App.Writer, "%s: ok, %d functions, %d routes\n", c.String("config"), len(cfg.Functions), len(cfg.Routes))
			return nil
		},
	}
}

// xdpHeadroom is the default of knob_headroom in bpf/include/config.h.
const xdpHeadroom = 216

// tailBytes is what follows ce-subject in a QoS 1 request with 100 to 999
// bytes of payload, less the MQTT head it replaces (see bpf/include/request.h).
const tailBytes = 15 + 7 + 20 + 2 + 16 + 3 + 4

// way says where the messages of a function are taken.
func way(cfg *config.Config, fn *config.Function) string {
	prefix := len(request.Prefix(fn))
	if prefix > len(bpf.EproxyFunction{}.Prefix) {
		return fmt.Sprintf("fallback (request head of %d bytes, the kernel path holds %d)", prefix, len(bpf.EproxyFunction{}.Prefix))
	}
	if cfg.XDP == "off" {
		return "TC (xdp: off)"
	}
	// ce-subject's name and line ends; MQTT's fixed header, topic length and packet id.
	grow := prefix + len("\r\nce-subject: \r\n") + tailBytes - 7
	if grow > xdpHeadroom {
		return fmt.Sprintf("TC (the request head grows a packet by %d bytes or more, XDP can do %d)", grow, xdpHeadroom)
	}
	return fmt.Sprintf("XDP for client ids of up to %d bytes, else TC", xdpHeadroom-grow)
}
