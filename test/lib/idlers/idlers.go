// Package idlers is what programs share that have functions sleep: one that is its own function, and whoever
// waits until all are ready, or frozen.
package idlers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"eproxy/internal/control"
	"eproxy/internal/instances"
)

// Copy copies this program into a directory, which others may enter then: the user of a function, who may start it there. It
// returns the copy's path.
func Copy(dir string) (string, error) {
	to := filepath.Join(dir, "function")
	code, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(to, code, 0o755) //nolint:gosec // it is to be started by others
	}
	if err == nil {
		err = os.Chmod(dir, 0o755) //nolint:gosec // and found
	}
	return to, err
}

// Reach waits until so many instances of the loader with these pins are in a state, for a minute at most.
func Reach(ctx context.Context, bpffs string, state instances.State, n int) error {
	client := control.Dial(bpffs)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	var there int
	var why string // of one that is not
	for {
		all, err := client.Instances(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil {
			there, why = count(all, state)
		}
		if there == n {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d functions are %s%s: %w", there, n, state, why, ctx.Err())
		case <-look.C:
		}
	}
}

// count is how many are in a state, and what is said of one that is not.
func count(all []instances.Status, state instances.State) (there int, why string) {
	for _, i := range all {
		switch {
		case i.State == state:
			there++
		case i.Reason != "":
			why = fmt.Sprintf(" (%s is %s: %s)", i.Function, i.State, i.Reason)
		}
	}
	return there, why
}
