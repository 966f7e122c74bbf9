package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// Exposed are warnings of files that give password hashes, the secret that tokens
// are signed with, or the token of the page, to every user of this host; file is the one that c was read from.
func (c *Config) Exposed(file string) []string {
	var out []string
	warn := func(what, file string) {
		if i, err := os.Stat(file); err == nil && i.Mode().Perm()&0o004 != 0 {
			out = append(out, fmt.Sprintf("every user of this host can read the %s in %s: chmod o= %s", what, file, file))
		}
	}
	if slices.ContainsFunc(c.Auth.Users, func(u User) bool { return u.PasswordHash != "" }) {
		warn("password hashes", file)
	}
	if c.Auth.PasswordFile != "" {
		warn("password hashes", c.Auth.PasswordFile)
	}
	if j := c.Auth.JWT; j != nil && j.SecretFile != "" {
		warn("secret", j.SecretFile)
	}
	if c.Metrics.TokenFile != "" {
		warn("token of the page", c.Metrics.TokenFile)
	}
	return out
}

// Untrusted is an error if the file that c was read from says what is to be run, and
// somebody else than root, or whoever runs this program, could have written it.
func (c *Config) Untrusted(file string) error {
	if !slices.ContainsFunc(c.Functions, func(f *Function) bool { return f.Run != nil }) {
		return nil
	}
	i, err := os.Stat(file)
	if err != nil {
		return err
	}
	owner, ok := i.Sys().(*syscall.Stat_t)
	if i.Mode().Perm()&0o022 != 0 || !ok || !trusted(owner) {
		return fmt.Errorf("%s: functions with run: the file must belong to root and be writable by nobody else (chown root %s; chmod go-w %s)", file, file, file)
	}
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		return err
	}
	for _, path := range []string{file, real} {
		if dir, err := replaceable(path); err != nil {
			return err
		} else if dir != "" {
			return fmt.Errorf("%s: functions with run: who may write to %s can put another file there: it must belong to root and be writable by nobody else (chown root %s; chmod go-w %s)", file, dir, dir, dir)
		}
	}
	return nil
}

// trusted says whether a file is root's, or of whoever runs this program.
func trusted(i *syscall.Stat_t) bool { return i.Uid == 0 || int(i.Uid) == os.Geteuid() }

// replaceable is the directory above a file, the nearest first, in which somebody else can put another one in the place of what
// leads to it; empty: nobody can. In a sticky one, as /tmp, that can only be done with what is one's own.
func replaceable(file string) (string, error) {
	dir, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	for {
		dir = filepath.Dir(dir)
		i, err := os.Stat(dir)
		if err != nil {
			return "", err
		}
		owner, ok := i.Sys().(*syscall.Stat_t)
		if !ok || !trusted(owner) || i.Mode().Perm()&0o022 != 0 && i.Mode()&os.ModeSticky == 0 {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", nil
		}
	}
}
