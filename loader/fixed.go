package main

import (
	"errors"
	"fmt"
	"reflect"

	"eproxy/internal/config"
)

// sameFixed refuses a reload that changes what only a restart can change; it
// names every such key.
func sameFixed(old, next *config.Config) error {
	var errs []error
	for _, k := range []struct {
		name string
		a, b any
	}{
		{"interfaces", old.Interfaces, next.Interfaces},
		{"xdp", old.XDP, next.XDP},
		{"listeners", old.Listeners, next.Listeners},
		{"limits", old.Limits, next.Limits},
		{"bpffs", old.BPFFS, next.BPFFS},
		{"metrics", old.Metrics, next.Metrics},
	} {
		if !reflect.DeepEqual(k.a, k.b) {
			errs = append(errs, fmt.Errorf("%s changed: restart the loader", k.name))
		}
	}
	return errors.Join(errs...)
}
