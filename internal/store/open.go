package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"eproxy/internal/lograte"
)

// name is that of the file in its directory.
const name = "sessions.db"

// format is what this program writes and reads; another one is refused.
const format = "1"

var meta, formatKey = []byte("meta"), []byte("format")

// lockTimeout is how long another process may keep the file that is just ending.
const lockTimeout = 2 * time.Second

// Open opens the file of a directory, and makes both if there are none. Both must belong to who runs this, and
// nobody else may read them: they hold what clients have said. A file that is damaged is refused, and left as it is.
// limit is in bytes, of keys and values together.
func Open(dir string, limit int64, log *slog.Logger) (*Store, error) {
	if err := prepare(dir); err != nil {
		return nil, fmt.Errorf("persistence: %w", err)
	}
	path := filepath.Join(dir, name)
	db, used, err := openVerified(path)
	if err != nil {
		return nil, fmt.Errorf("persistence: %s: %w", path, err)
	}
	s := &Store{db: db, limit: limit, log: log, often: lograte.New(log), done: make(chan struct{})}
	s.changed = sync.NewCond(&s.mu)
	s.used.Store(used)
	go s.write()
	return s, nil
}

// prepare sees to the directory, and to a new file in it.
func prepare(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := private(dir, fs.FileMode.IsDir, "directory", "700"); err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	err := private(path, fs.FileMode.IsRegular, "file", "600")
	if errors.Is(err, fs.ErrNotExist) {
		return create(dir, path)
	}
	if i, serr := os.Lstat(path); err == nil && serr == nil && i.Size() == 0 { // bbolt would begin anew
		return fmt.Errorf("%s: %w", path, damaged(errors.New("it is empty")))
	}
	return err
}

// private is an error if somebody else could have written what is there, or may read it.
func private(path string, is func(fs.FileMode) bool, what, mode string) error {
	i, err := os.Lstat(path)
	if err != nil {
		return err
	}
	owner, _ := i.Sys().(*syscall.Stat_t)
	switch {
	case !is(i.Mode()):
		return fmt.Errorf("%s is no %s", path, what)
	case owner == nil || int(owner.Uid) != os.Geteuid():
		return fmt.Errorf("%s: must belong to the user that runs this program, number %d", path, os.Geteuid())
	case i.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s: others may read or write it: chmod %s %s", path, mode, path)
	}
	return nil
}

// create makes the file under another name first: one that a crash leaves half made would be refused for ever.
func create(dir, path string) error {
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bolt.Open(fresh, 0o600, &bolt.Options{Timeout: lockTimeout})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, b := range buckets {
			if _, err := tx.CreateBucket(b); err != nil {
				return err
			}
		}
		b, err := tx.CreateBucket(meta)
		if err != nil {
			return err
		}
		return b.Put(formatKey, []byte(format))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// openVerified opens the file and reads all of it. bbolt panics where it meets what it cannot have written, and
// a file that is shorter than it says is a fault of memory.
func openVerified(path string) (db *bolt.DB, used int64, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = damaged(fmt.Errorf("%v", cause))
		}
	}()
	db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, 0, errors.New("another process has it open")
	case err != nil:
		return nil, 0, damaged(err)
	}
	if used, err = verify(db); err != nil {
		return nil, 0, errors.Join(err, db.Close())
	}
	return db, used, nil
}

func damaged(why error) error {
	return fmt.Errorf("the file is damaged (%w): restore it, or move it away to begin without sessions", why)
}

// verify reads every record, and returns their bytes.
func verify(db *bolt.DB) (used int64, err error) {
	err = db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(meta)
		if b == nil {
			return damaged(errors.New("it has no format"))
		}
		if f := string(b.Get(formatKey)); f != format {
			return fmt.Errorf("is of format %q, this program knows %s", f, format)
		}
		for _, name := range buckets {
			b := tx.Bucket(name)
			if b == nil {
				return damaged(fmt.Errorf("it has no %s", name))
			}
			err := b.ForEach(func(key, sealed []byte) error {
				used += int64(len(key) + len(sealed))
				_, err := unseal(sealed)
				return err
			})
			if err != nil {
				return damaged(fmt.Errorf("%s: %w", name, err))
			}
		}
		return nil
	})
	return used, err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal puts a checksum in front of a value: bbolt has none of its pages.
func seal(value []byte) []byte {
	out := make([]byte, 4, 4+len(value))
	binary.LittleEndian.PutUint32(out, crc32.Checksum(value, castagnoli))
	return append(out, value...)
}

// unseal checks it, and returns a copy of the value.
func unseal(sealed []byte) ([]byte, error) {
	if len(sealed) < 4 || binary.LittleEndian.Uint32(sealed) != crc32.Checksum(sealed[4:], castagnoli) {
		return nil, errCorrupt
	}
	return bytes.Clone(sealed[4:]), nil
}

func hasPrefix(key, prefix []byte) bool { return key != nil && bytes.HasPrefix(key, prefix) }
