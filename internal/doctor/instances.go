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
	return append(out, paging(cfg)...)
}

// paging says whether functions that are frozen can leave memory, if any is to.
func paging(cfg *config.Config) []Feature {
	for _, fn := range cfg.Functions {
		if fn.Run == nil || fn.Run.PageOut == 0 {
			continue
		}
		if err := instances.Paging(); err != nil {
			return []Feature{{"paging out of instances", Degraded, err.Error()}}
		}
		return []Feature{{"paging out of instances", Used, "what is frozen for long leaves memory for swap"}}
	}
	return nil
}
