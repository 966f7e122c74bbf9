package config

import (
	"fmt"
	"os"
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
	if i.Mode().Perm()&0o022 == 0 && ok && (owner.Uid == 0 || int(owner.Uid) == os.Geteuid()) {
		return nil
	}
	return fmt.Errorf("%s: functions with run: the file must belong to root and be writable by nobody else (chown root %s; chmod go-w %s)", file, file, file)
}
