package config

import (
	"errors"
	"fmt"
	"reflect"
)

// Restart refuses a reload that changes what only a restart of the program can
// change; it names every such key.
func (old *Config) Restart(next *Config, program string) error {
	var errs []error
	for _, k := range []struct {
		name string
		a, b any
	}{
		{"interfaces", old.Interfaces, next.Interfaces},
		{"xdp", old.XDP, next.XDP},
		{"broker", old.Broker, next.Broker},
		{"limits", old.Limits, next.Limits},
		{"bpffs", old.BPFFS, next.BPFFS},
		{"monitoring", old.Monitoring, next.Monitoring},
		{"tracing", old.Tracing, next.Tracing},
		{"persistence", old.Persistence, next.Persistence},
		{"metrics", old.Metrics, next.Metrics},
		{"scaler", old.Scaler, next.Scaler},
		{"kubernetes", old.Kubernetes, next.Kubernetes},
		{"runtime", old.Runtime, next.Runtime},
	} {
		if !reflect.DeepEqual(k.a, k.b) {
			errs = append(errs, fmt.Errorf("%s changed: restart %s", k.name, program))
		}
	}
	if old.Broker.Relay() && !reflect.DeepEqual(old.Listeners, next.Listeners) {
		errs = append(errs, fmt.Errorf("listeners changed: with broker mode relay restart %s", program))
	}
	return errors.Join(errs...)
}
