package endpoints

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"eproxy/internal/config"
)

// Said is what a source of a function's pods says.
type Said struct {
	Function string
	Source   string // as people know it
	Pods     int
	Err      error // why that is not known, or there are none (None); nil: neither
}

// None says whether the source was understood: there are no pods, for a reason that Err says.
func (s Said) None() bool { return errors.Is(s.Err, errNone) }

// Look asks the sources of a configuration's functions once, and waits as long as a
// start does. It returns the configuration with the pods that they name, and what
// each said, in the configuration's order. Nothing is run for it: instances that the
// loader is to start are no pods here.
func Look(ctx context.Context, cfg *config.Config, cluster Cluster) (*config.Config, []Said) {
	w := Watch(idle(cfg), Sources{Cluster: cluster}, slog.New(slog.DiscardHandler))
	defer w.Close()
	w.Settle(ctx)
	return w.Apply(idle(cfg)), w.said(idle(cfg))
}

// idle is a configuration by which nothing is run.
func idle(cfg *config.Config) *config.Config {
	out := *cfg
	out.Functions = slices.Clone(cfg.Functions)
	for i, fn := range out.Functions {
		if fn.Run != nil {
			still := *fn
			still.Run = nil
			out.Functions[i] = &still
		}
	}
	return &out
}

// said is what the sources of a configuration's functions have said.
func (w *Watcher) said(cfg *config.Config) (out []Said) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, fn := range cfg.Functions {
		for _, s := range w.sourcesOf(fn) {
			f := w.sources[s]
			said := Said{Function: fn.Name, Source: s.String(), Pods: len(f.pods), Err: f.err}
			select {
			case <-f.answered:
			default:
				said.Err = fmt.Errorf("no answer within %s", settleTime)
			}
			out = append(out, said)
		}
	}
	return out
}
