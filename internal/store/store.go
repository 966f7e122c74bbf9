package store

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"eproxy/internal/lograte"
)

// Kind is what a record is. Keys of all but Retained begin with a client identifier, see Key.
type Kind byte

// Kinds of records.
const (
	Session      Kind = iota // of a client
	Subscription             // of a client, by filter
	Message                  // for a client, or a message of QoS 2 from it, by packet identifier
	Received                 // of QoS 2 from a client, routed, by packet identifier
	Retained                 // by topic
	kinds
)

// Key is that of a client's record: no MQTT string has the byte 0 (MQTT 5 section 1.5.4).
func Key(client, rest string) string { return client + "\x00" + rest }

// Bounds of what waits to be written; whoever puts more waits for the disk.
const (
	waitingOps   = 1 << 16
	waitingBytes = 16 << 20
)

// op is a change of one record.
type op struct {
	kind   Kind
	key    string
	value  []byte // nil: delete
	client bool   // delete all that begins with the key, of all kinds but Retained
}

// Store is an open file. Its methods may be called by any goroutine.
type Store struct {
	db      *bolt.DB
	layout  Layout
	buckets [][]byte // where bbolt has the kinds
	limit   int64
	log     *slog.Logger
	often   *lograte.Logger
	used    atomic.Int64 // bytes of keys and values in the file
	open    atomic.Int64 // changes and calls that are not done

	groups  sync.RWMutex // read locked within a group
	grouped atomic.Int64 // groups that are open

	mu      sync.Mutex
	changed *sync.Cond // something to do, or room for more
	ops     []op
	bytes   int
	calls   []func()
	closing bool
	done    chan struct{} // closed when nothing more is written
}

// Put writes a record in place of another of the same key, later. It waits only where the disk does not follow. false: nothing is written, the
// store is being closed, or bbolt takes no such record.
func (s *Store) Put(k Kind, key string, value []byte) bool {
	in, sealed := record(key, value)
	if in == "" || len(sealed) > bolt.MaxValueSize { // a commit would be tried for ever
		s.log.Error("record not written to disk: no key, or too large", "file", s.db.Path(), "bytes", len(sealed))
		return false
	}
	return s.add(op{kind: k, key: in, value: sealed})
}

// Delete removes a record, later; false as Put.
func (s *Store) Delete(k Kind, key string) bool {
	in, _ := short(key)
	return s.add(op{kind: k, key: in})
}

// Forget removes all records of a client, later.
func (s *Store) Forget(client string) {
	prefix, _ := short(Key(client, ""))
	s.add(op{key: prefix, client: true})
}

func (s *Store) add(o op) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.closing && s.grouped.Load() == 0 && (len(s.ops) >= waitingOps || s.bytes >= waitingBytes) {
		s.changed.Wait()
	}
	if s.closing {
		return false
	}
	s.ops = append(s.ops, o)
	s.bytes += len(o.key) + len(o.value)
	s.open.Add(1)
	s.changed.Broadcast()
	return true
}

// Begin begins a group: what is put until End is on disk all together, or nothing of it. Nobody waits for the disk within it.
func (s *Store) Begin() {
	s.groups.RLock()
	s.grouped.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.Broadcast() // who waits for the disk may have what the group waits for, while the disk waits for the group
}

// End ends a group, in any goroutine.
func (s *Store) End() {
	s.grouped.Add(-1)
	s.groups.RUnlock()
}

// After calls f, which does not wait, when all is on disk that was put before; at once, if it is.
func (s *Store) After(f func()) {
	s.mu.Lock()
	if s.open.Load() == 0 {
		s.mu.Unlock()
		f()
		return
	}
	defer s.mu.Unlock()
	if s.closing {
		return
	}
	s.calls = append(s.calls, f)
	s.open.Add(1)
	s.changed.Broadcast()
}

// Sync waits until all is on disk that was put before; false: the store was closed before, and some of it may not be there.
func (s *Store) Sync() bool {
	if !s.Behind() {
		return true
	}
	done := make(chan struct{})
	s.After(func() { close(done) })
	select {
	case <-done:
		return true
	case <-s.done:
	}
	select {
	case <-done:
		return true
	default:
		return !s.Behind() // what came after the last call
	}
}

// Behind says whether something that was put is not on disk yet, or who waits for it has not been told.
func (s *Store) Behind() bool { return s.open.Load() > 0 }

// Full says whether the records have reached the limit: then no new ones are to be put but those that end something.
func (s *Store) Full() bool { return s.used.Load() >= s.limit }

// Used is how many bytes the records have.
func (s *Store) Used() int64 { return s.used.Load() }

// retry is how long a write that has failed waits for the next attempt.
const retry = time.Second

// write commits what was put, until the store is closed.
func (s *Store) write() {
	defer close(s.done)
	for {
		s.mu.Lock()
		for len(s.ops) == 0 && len(s.calls) == 0 && !s.closing {
			s.changed.Wait()
		}
		s.mu.Unlock()
		s.groups.Lock()
		s.mu.Lock()
		ops, calls, last := s.ops, s.calls, s.closing
		s.ops, s.calls, s.bytes = nil, nil, 0
		s.changed.Broadcast()
		s.mu.Unlock()
		s.groups.Unlock()
		if !s.commit(ops) {
			return
		}
		s.open.Add(-int64(len(ops)))
		for _, f := range calls {
			f()
			s.open.Add(-1)
		}
		if last && len(ops) == 0 && len(calls) == 0 {
			return
		}
	}
}

// commit writes changes, again and again where the disk refuses: nothing of it is acknowledged to anybody
// before. false: the store was closed meanwhile.
func (s *Store) commit(ops []op) bool {
	for len(ops) > 0 {
		grown, err := s.apply(ops)
		if err == nil {
			s.used.Add(grown)
			return true
		}
		s.often.Warn(s.layout.What+" cannot be written to disk, what they would have acknowledged waits", s.db.Path(), "file", s.db.Path(), "error", err)
		if s.Closed() {
			s.log.Error(s.layout.What+" not written to disk", "file", s.db.Path(), "error", err)
			return false
		}
		time.Sleep(retry)
	}
	return true
}

// Closed says whether what is put is dropped, since the store is being closed.
func (s *Store) Closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// apply makes changes, all or none, and returns by how many bytes the records have grown.
func (s *Store) apply(ops []op) (grown int64, err error) {
	err = s.db.Update(func(tx *bolt.Tx) error {
		for _, o := range ops {
			n, err := o.apply(tx, s.buckets)
			if err != nil {
				return err
			}
			grown += n
		}
		return nil
	})
	return grown, err
}

func (o *op) apply(tx *bolt.Tx, buckets [][]byte) (grown int64, err error) {
	if o.client {
		return forget(tx, buckets, []byte(o.key))
	}
	b, key := tx.Bucket(buckets[o.kind]), []byte(o.key)
	if old := b.Get(key); old != nil {
		grown = -int64(len(key) + len(old))
	}
	if o.value == nil {
		return grown, b.Delete(key)
	}
	return grown + int64(len(key)+len(o.value)), b.Put(key, o.value)
}

// forget deletes a client's records.
func forget(tx *bolt.Tx, buckets [][]byte, prefix []byte) (grown int64, err error) {
	for k, name := range buckets {
		if Kind(k) == Retained {
			continue
		}
		c := tx.Bucket(name).Cursor()
		// Deleting moves the cursor: it looks again each time.
		for key, value := c.Seek(prefix); hasPrefix(key, prefix); key, value = c.Seek(prefix) {
			grown -= int64(len(key) + len(value))
			if err := c.Delete(); err != nil {
				return 0, err
			}
		}
	}
	return grown, nil
}

// Each shows every record of a kind, in the order of keys, until see returns an error. What it is given is its own.
func (s *Store) Each(k Kind, see func(key string, value []byte) error) error {
	return s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(s.buckets[k]).ForEach(func(in, sealed []byte) error {
			key, value, err := unrecord(in, sealed)
			if err != nil {
				return fmt.Errorf("%s: %w", s.db.Path(), err)
			}
			return see(key, value)
		})
	})
}

// Range shows the records of a client and a kind that are on disk, in the order of keys, until see
// returns false. What it is given is its own.
func (s *Store) Range(k Kind, client string, see func(key string, value []byte) bool) error {
	begin, _ := short(Key(client, ""))
	prefix := []byte(begin)
	return s.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(s.buckets[k]).Cursor()
		for in, sealed := c.Seek(prefix); hasPrefix(in, prefix); in, sealed = c.Next() {
			key, value, err := unrecord(in, sealed)
			if err != nil {
				return fmt.Errorf("%s: %w", s.db.Path(), err)
			}
			if !see(key, value) {
				return nil
			}
		}
		return nil
	})
}

// Shut has what was put written, if the disk takes it now, and nothing more: whoever waits for a disk that does not is told. Close is to follow.
func (s *Store) Shut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	s.changed.Broadcast()
}

// Close writes what was put, and closes the file.
func (s *Store) Close() error {
	s.Shut()
	<-s.done
	s.often.Close()
	return s.db.Close()
}

// errCorrupt: what is in the file is not what was written.
var errCorrupt = errors.New("a record is damaged")
