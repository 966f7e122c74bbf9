package doctor

import (
	"eproxy/internal/config"
	"eproxy/internal/instances"
)

// Instances says for each function that the loader is to run whether it can.
func Instances(cfg *config.Config) (out []Feature) {
	for _, fn := range cfg.Functions {
		if fn.Run == nil {
			continue
		}
		f := Feature{"instances of " + fn.Name, Used, instances.Describe(fn.Run)}
		switch hindered, without := instances.Fit(fn.Run); {
		case hindered != "":
			f.State, f.Detail = Degraded, "they cannot be run: "+hindered
		case without != "":
			f.State, f.Detail = Degraded, without
		}
		out = append(out, f)
	}
	return out
}
