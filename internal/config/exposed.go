package config

import (
	"fmt"
	"os"
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
