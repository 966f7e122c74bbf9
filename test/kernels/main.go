// Command kernels boots Debian's kernels in an emulator, without touching the
// kernel that runs, and tries eproxy on each. See guest/ for what is tried.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
)

func main() {
	cliutil.Main(&cli.App{
		Name:  "kernels",
		Usage: "boot Debian's kernels in an emulator and try eproxy on each",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "kernel", Value: cli.NewStringSlice("6.12=full", "6.1=fallback"), Usage: "boot the newest `SERIES=CASES`, with what guest/CASES.sh tries"},
			&cli.StringFlag{Name: "cache", Value: ".cache/kernels", Usage: "keep downloads, images and logs in `DIR`"},
			&cli.StringFlag{Name: "netns", Value: "TestStartErrors TestReload TestBackOnKernelPath TestBursts", Usage: "`TESTS` of test/netns that full.sh runs: short ones, which need no more programs than the image has"},
			&cli.IntFlag{Name: "memory", Value: 2048, Usage: "of the machine, `MIB`"},
			&cli.StringFlag{Name: "devices", Value: "100000", Usage: "connect so many devices, ascending `NUMBERS`, in many.sh"},
			&cli.DurationFlag{Name: "timeout", Value: 20 * time.Minute, Usage: "for one kernel, from power on to power off"},
		},
		Action: run,
	})
}

func run(c *cli.Context) error {
	cache, err := filepath.Abs(c.String("cache"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	files, err := payload(c.Context)
	if err != nil {
		return err
	}
	var results []result
	for _, choice := range c.StringSlice("kernel") {
		series, cases, ok := strings.Cut(choice, "=")
		if !ok {
			return cliutil.Usagef("--kernel %q: must be SERIES=CASES", choice)
		}
		a := attempt{cache: cache, series: series, cases: cases, netns: c.String("netns"), devices: c.String("devices"), memory: c.Int("memory"), timeout: c.Duration("timeout")}
		rs, err := try(c.Context, a, files)
		if err != nil {
			return fmt.Errorf("kernel %s: %w", series, err)
		}
		results = append(results, rs...)
	}
	if printResults(c.App.Writer, results) > 0 {
		return errors.New("not everything that was tried works")
	}
	return nil
}

// attempt is one kernel and what is tried on it.
type attempt struct {
	cache   string
	series  string // such as 6.12
	cases   string // a script in guest
	netns   string // tests of test/netns
	devices string // that many.sh connects
	memory  int    // of the machine, MiB
	timeout time.Duration
}

// try boots one kernel and returns what came out.
func try(ctx context.Context, a attempt, files []file) ([]result, error) {
	k, err := findKernel(ctx, a.cache, a.series)
	if err != nil {
		return nil, err
	}
	image, err := buildImage(ctx, a, k, files)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	return boot(ctx, a, k, image, filepath.Join(a.cache, k.release+".log"))
}
