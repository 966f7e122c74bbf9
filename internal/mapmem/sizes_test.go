package mapmem

import (
	"testing"

	"eproxy/internal/abi"
	"eproxy/internal/config"
)

// TestDeepest: there are buffers for the deepest pipeline that a function has, or may have that
// comes while the loader runs.
func TestDeepest(t *testing.T) {
	of := func(pipelines ...int) *config.Config {
		cfg := &config.Config{}
		for _, n := range pipelines {
			cfg.Functions = append(cfg.Functions, &config.Function{Pipeline: n})
		}
		return cfg
	}
	resources := of(1)
	resources.Kubernetes.Routes = []config.RouteSource{{Namespace: "edge"}}
	for _, c := range []struct {
		cfg  *config.Config
		want uint32
	}{{of(), 1}, {of(1), 1}, {of(1, 5, 2), 8}, {of(1, config.PipelineAuto), abi.PipelineMax}, {resources, abi.PipelineMax}} {
		if got := Deepest(c.cfg); got != c.want {
			t.Errorf("%v: %d, want %d", c.cfg, got, c.want)
		}
	}
}
