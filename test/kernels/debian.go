package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// kernel is an unpacked kernel package.
type kernel struct {
	release string // as uname -r says
	vmlinuz string
	modules string // directory of the modules
}

// findKernel unpacks the newest kernel of a series, such as 6.12, that apt
// knows; it downloads what the cache does not have. Nothing is installed.
func findKernel(ctx context.Context, cache, series string) (kernel, error) {
	release, err := newest(ctx, series)
	if err != nil {
		return kernel{}, err
	}
	dir := filepath.Join(cache, release)
	if _, err := os.Stat(dir); err != nil {
		if err := download(ctx, cache, "linux-image-"+release, dir); err != nil {
			return kernel{}, err
		}
	}
	return kernel{release, filepath.Join(dir, "boot", "vmlinuz-"+release), filepath.Join(dir, "lib/modules", release, "kernel")}, nil
}

// newest is the release of the newest package of a series in apt's index, which
// is brought up to date if it has none.
func newest(ctx context.Context, series string) (string, error) {
	for _, update := range []bool{false, true} {
		if update {
			if _, err := output(ctx, "", "apt-get", "update", "-q"); err != nil {
				return "", err
			}
		}
		out, err := output(ctx, "", "apt-cache", "pkgnames", "linux-image-"+series+".")
		if err != nil {
			return "", err
		}
		form := regexp.MustCompile(`^linux-image-(` + regexp.QuoteMeta(series) + `\.[0-9].*-cloud-amd64)$`)
		var releases []string
		for name := range strings.FieldsSeq(out) {
			if m := form.FindStringSubmatch(name); m != nil {
				releases = append(releases, m[1])
			}
		}
		if len(releases) > 0 {
			return slices.MaxFunc(releases, func(a, b string) int { return compareVersions(ctx, a, b) }), nil
		}
	}
	return "", fmt.Errorf("apt knows no linux-image-%s.*-cloud-amd64: is the suite that has it (Debian's security archive, backports) among its sources?", series)
}

// compareVersions orders by Debian's rules.
func compareVersions(ctx context.Context, a, b string) int {
	switch {
	case a == b:
		return 0
	case exec.CommandContext(ctx, "dpkg", "--compare-versions", a, "gt", b).Run() == nil:
		return 1
	}
	return -1
}

// download gets a package and unpacks it into dir, which is there only when it
// is whole.
func download(ctx context.Context, cache, name, dir string) error {
	tmp, err := os.MkdirTemp(cache, "download-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	// as this user: apt's own may have no access to the directory
	get := []string{"-q", "-o", "APT::Sandbox::User=root", "download", name}
	if _, err := output(ctx, tmp, "apt-get", get...); err != nil {
		// the archive has a newer one than the index
		if _, err := output(ctx, "", "apt-get", "update", "-q"); err != nil {
			return err
		}
		if _, err := output(ctx, tmp, "apt-get", get...); err != nil {
			return err
		}
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("apt-get download %s gave %d files", name, len(debs))
	}
	tree := filepath.Join(tmp, "tree")
	if _, err := output(ctx, "", "dpkg-deb", "-x", debs[0], tree); err != nil {
		return err
	}
	return os.Rename(tree, dir)
}

// output runs a command in a directory and returns what it prints.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return string(out), nil
}
