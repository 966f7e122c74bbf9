package instances

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"eproxy/internal/cgroup"
	"eproxy/internal/config"
)

// Fit says what hinders instances of a function on this machine, and what else they will
// have to do without; what is empty is well. It starts nothing.
func Fit(run *config.Run) (hindered, without string) {
	groups, err := cgroup.Find()
	if err != nil {
		return err.Error(), ""
	}
	for _, c := range controllers(run) {
		if groups.Where(c) == "" {
			return fmt.Sprintf("no cgroup hierarchy has the controller %s", c), ""
		}
	}
	if run.Idle > 0 && groups.Unified() == "" {
		return "", cgroup.ErrNoFreezer.Error()
	}
	if _, err := lookup(run.User); err != nil {
		return err.Error(), ""
	}
	if err := exists(run); err != nil {
		return err.Error(), ""
	}
	if why := unforkable(run); why != "" {
		return "", why
	}
	if os.Geteuid() != 0 {
		return "", "not tried further: that needs root"
	}
	c, err := openRules()
	if err == nil {
		_, err = c.ListTables()
		err = rulesError(err)
	}
	if err != nil {
		return err.Error(), ""
	}
	if run.Outgoing {
		if why := unforwarded(); why != "" {
			return "", why
		}
	}
	return "", ""
}

// unforkable says why this machine has no zygotes; empty: it may have.
func unforkable(run *config.Run) string {
	if run.Zygote == "" {
		return ""
	}
	b, err := os.ReadFile("/proc/sys/user/max_user_namespaces")
	if err != nil {
		return "instances are started without a zygote: this kernel has no user namespaces (CONFIG_USER_NS)"
	}
	if strings.TrimSpace(string(b)) == "0" {
		return "instances are started without a zygote: user.max_user_namespaces is 0 here"
	}
	return ""
}

// controllers are those that a function's limits need.
func controllers(run *config.Run) []string {
	if run.CPU > 0 {
		return []string{cgroup.Memory, cgroup.PIDs, cgroup.CPU}
	}
	return []string{cgroup.Memory, cgroup.PIDs}
}

// exists says whether there is a function's command; its user may still not be allowed to
// run it.
func exists(run *config.Run) error {
	name := run.Command[0]
	paths := []string{name}
	switch {
	case !strings.Contains(name, "/"):
		paths = nil
		for _, e := range environment(run) {
			if list, ok := strings.CutPrefix(e, "PATH="); ok {
				for _, dir := range filepath.SplitList(list) {
					paths = append(paths, filepath.Join(dir, name))
				}
			}
		}
	case !filepath.IsAbs(name):
		paths = []string{filepath.Join(run.Dir, name)}
	}
	for _, p := range paths {
		if _, err := exec.LookPath(p); err == nil || errors.Is(err, exec.ErrDot) {
			return nil
		}
	}
	return fmt.Errorf("command %q is no program here", name)
}

// Describe says in which hierarchies of this machine limits are set, for people.
func Describe(run *config.Run) string {
	groups, err := cgroup.Find()
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, c := range controllers(run) {
		out = append(out, fmt.Sprintf("%s by %s", c, groups.Where(c)))
	}
	return strings.Join(out, ", ")
}
