package cliutil

import (
	"log/slog"

	"eproxy/internal/config"
)

// LoadConfig reads a configuration to serve by, and warns of what is allowed but
// hardly meant.
func LoadConfig(file string, log *slog.Logger, needs ...config.Need) (*config.Config, error) {
	cfg, err := config.Load(file, needs...)
	if err != nil {
		return nil, err
	}
	for _, w := range cfg.Exposed(file) {
		log.Warn(w)
	}
	return cfg, nil
}
