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

// Layout is what a file holds.
type Layout struct {
	Key     string   // of the configuration that asks for it, which errors begin with
	File    string   // its name in the directory
	What    string   // what its records are, in log lines and errors
	Buckets []string // of the kinds, in their order
}

// Sessions is what of MQTT outlives the program.
var Sessions = Layout{Key: "persistence", File: "sessions.db", What: "sessions",
	Buckets: []string{Session: "sessions", Subscription: "subscriptions", Message: "messages", Received: "received", Retained: "retained"}}

// format is what this program writes and reads; another one is refused.
const format = "1"

var meta, formatKey = []byte("meta"), []byte("format")

// lockTimeout is how long another process may keep the file that is just ending.
const lockTimeout = 2 * time.Second

// Open opens the file of sessions in a directory. limit is in bytes, of keys and values together.
func Open(dir string, limit int64, log *slog.Logger) (*Store, error) {
	return Sessions.Open(dir, limit, log, func(Kind, string, []byte) {})
}

// Open opens the file of a directory, and makes both if there are none. Both must belong to who runs this, and
// nobody else may read them: they hold what clients have said. A file that is damaged is refused, and left as it is.
// limit is in bytes, of keys and values together. see is shown every record that there is.
func (l Layout) Open(dir string, limit int64, log *slog.Logger, see func(k Kind, key string, value []byte)) (*Store, error) {
	if err := l.prepare(dir); err != nil {
		return nil, fmt.Errorf("%s: %w", l.Key, err)
	}
	path := filepath.Join(dir, l.File)
	db, used, err := l.openVerified(path, see)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", l.Key, path, err)
	}
	s := &Store{db: db, layout: l, limit: limit, log: log, often: lograte.New(log), done: make(chan struct{})}
	for _, b := range l.Buckets {
		s.buckets = append(s.buckets, []byte(b))
	}
	s.changed = sync.NewCond(&s.mu)
	s.used.Store(used)
	go s.write()
	return s, nil
}

// prepare sees to the directory, and to a new file in it.
func (l Layout) prepare(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := private(dir, fs.FileMode.IsDir, "directory", "700"); err != nil {
		return err
	}
	path := filepath.Join(dir, l.File)
	err := private(path, fs.FileMode.IsRegular, "file", "600")
	if errors.Is(err, fs.ErrNotExist) {
		return l.create(dir, path)
	}
	if i, serr := os.Lstat(path); err == nil && serr == nil && i.Size() == 0 { // bbolt would begin anew
		return fmt.Errorf("%s: %w", path, l.damaged(errors.New("it is empty")))
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
func (l Layout) create(dir, path string) error {
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bolt.Open(fresh, 0o600, &bolt.Options{Timeout: lockTimeout})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, b := range l.Buckets {
			if _, err := tx.CreateBucket([]byte(b)); err != nil {
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
func (l Layout) openVerified(path string, see func(Kind, string, []byte)) (db *bolt.DB, used int64, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = l.damaged(fmt.Errorf("%v", cause))
		}
	}()
	db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, 0, errors.New("another process has it open")
	case err != nil:
		return nil, 0, l.damaged(err)
	}
	if used, err = l.verify(db, see); err != nil {
		return nil, 0, errors.Join(err, db.Close())
	}
	return db, used, nil
}

func (l Layout) damaged(why error) error {
	return fmt.Errorf("the file is damaged (%w): restore it, or move it away to begin without %s", why, l.What)
}

// verify reads and shows every record, and returns their bytes.
func (l Layout) verify(db *bolt.DB, see func(Kind, string, []byte)) (used int64, err error) {
	err = db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(meta)
		if b == nil {
			return l.damaged(errors.New("it has no format"))
		}
		if f := string(b.Get(formatKey)); f != format {
			return fmt.Errorf("is of format %q, this program knows %s", f, format)
		}
		for k, name := range l.Buckets {
			b := tx.Bucket([]byte(name))
			if b == nil {
				return l.damaged(fmt.Errorf("it has no %s", name))
			}
			err := b.ForEach(func(in, sealed []byte) error {
				used += int64(len(in) + len(sealed))
				key, value, err := unrecord(in, sealed)
				if err == nil {
					see(Kind(k), key, value)
				}
				return err
			})
			if err != nil {
				return l.damaged(fmt.Errorf("%s: %w", name, err))
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
