package auth

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"eproxy/internal/config"
	"eproxy/internal/passhash"
)

// maxPasswords is how long a password file may be, in bytes: some 500,000 accounts.
const maxPasswords = 64 << 20

// readPasswords adds the accounts of a password file: a line each, name:hash. Empty lines, and those that begin with
// '#', say nothing. The whole file counts, or nothing of it.
func (a *Accounts) readPasswords(path string) error {
	b, err := readFile(path, maxPasswords)
	if err != nil {
		return fmt.Errorf("password_file: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, 1<<20)
	seen := make(map[string]int)
	n := 0
	for lines.Scan() {
		n++
		line := strings.TrimSuffix(lines.Text(), "\r")
		if line == "" || line[0] == '#' {
			continue
		}
		name, hash, ok := strings.Cut(line, ":")
		if err := a.passwordLine(name, hash, ok, seen[name]); err != nil {
			return &config.Error{File: path, Line: n, Message: err.Error()}
		}
		seen[name] = n
		a.add(name, hash)
	}
	if lines.Err() != nil {
		return &config.Error{File: path, Line: n + 1, Message: "the line is too long"}
	}
	return nil
}

// passwordLine says what is wrong with a line; before is the one that has the same name, 0: none.
func (a *Accounts) passwordLine(name, hash string, ok bool, before int) error {
	switch {
	case !ok || name == "":
		return errors.New("must be name:hash, as mosquitto_passwd and htpasswd -B write it")
	case before > 0:
		return fmt.Errorf("user %q is a duplicate of line %d", name, before)
	case a.hashes[name] != "":
		return fmt.Errorf("user %q has a password in the configuration, too", name)
	}
	if err := passhash.Check(hash); err != nil {
		return fmt.Errorf("user %q: the hash %w", name, err)
	}
	return nil
}

// readFile reads a file that is not empty: that is what one looks like that is about to be written anew.
func readFile(path string, most int64) ([]byte, error) {
	i, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	switch {
	case !i.Mode().IsRegular():
		return nil, fmt.Errorf("%s: is no regular file", path)
	case i.Size() > most:
		return nil, fmt.Errorf("%s: is longer than %d bytes", path, most)
	}
	b, err := os.ReadFile(path)
	if err == nil && len(bytes.TrimSpace(b)) == 0 {
		err = fmt.Errorf("%s: is empty", path)
	}
	return b, err
}
