package config

import (
	"fmt"
	"os"
	"slices"
	"syscall"
)

// Exposed is a warning if the file that c was read from gives password hashes
// to every user of this host, who can then guess passwords at leisure; else "".
func (c *Config) Exposed(file string) string {
	i, err := os.Stat(file)
	if err != nil || len(c.Auth.Users) == 0 || i.Mode().Perm()&0o004 == 0 {
		return ""
	}
	return fmt.Sprintf("every user of this host can read the password hashes in %s: chmod o= %s", file, file)
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
