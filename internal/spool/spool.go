package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"eproxy/internal/store"
)

const (
	// Clients is how many clients may have messages in one spool.
	Clients = 1 << 16
	// onTheWay bound what is not on disk yet.
	onTheWayMessages = 4096
	onTheWayBytes    = 8 << 20
)

// Refusal is why a spool takes no message.
type Refusal int

// The refusals.
const (
	Full    Refusal = iota // the client has as much of the spool as is left: there is none, or others are to have some, too
	Crowded                // there are messages of Clients others
	Disk                   // it does not follow: as much is on its way to it as may be
	Refusals
)

// String is the value of a metric's label.
func (r Refusal) String() string { return [Refusals]string{"full", "clients", "disk"}[r] }

// messages is the kind of a spool's records.
const messages store.Kind = 0

// Spool is an open file. Its methods may be called by any goroutine.
type Spool struct {
	store *store.Store

	mu       sync.Mutex
	limit    int64
	used     Size // what there is, also on its way to the disk
	onTheWay Size
	clients  map[string]*client
	keeping  int // clients that have something in it
	closed   bool
	puts     sync.WaitGroup // under way; none begins when closed
	base     uint64         // of orders: nanoseconds at origin
	origin   time.Time      // when the spool was opened
	serial   uint32         // of the next order
	freed    chan struct{}  // closed when something leaves; nil: nobody waits for that
	counts   Counts
	drain    drain
}

// Size is of messages.
type Size struct {
	Messages int
	Bytes    int64 // on disk, with their keys
}

func (s *Size) add(n int, bytes int64) { s.Messages, s.Bytes = s.Messages+n, s.Bytes+bytes }

// Counts are of what has happened since the spool was opened.
type Counts struct {
	Put     uint64
	Ended   map[string]uint64 // by outcome
	Refused [Refusals]uint64
}

// client is who has messages in the spool, or others that come before those.
type client struct {
	name   string
	memory []Order // of messages that are not on disk, ascending: none that came later is drained
	kept   Size    // also on its way to the disk
	turn   turn
}

// Order is when a message came, among others of its client: as bytes, they ascend.
type Order [12]byte

func (o Order) compare(p Order) int { return bytes.Compare(o[:], p[:]) }

// Open opens the spool of a function in a directory, see store.Layout. limit is in bytes.
func Open(dir, function string, limit int64, log *slog.Logger) (*Spool, error) {
	s := &Spool{limit: limit, clients: make(map[string]*client), origin: time.Now()}
	s.base = uint64(s.origin.UnixNano())
	s.counts.Ended = make(map[string]uint64)
	s.drain.changed = sync.NewCond(&s.mu)
	layout := store.Layout{Key: fmt.Sprintf("function %q: spool", function), File: function + ".spool", What: "spooled messages", Buckets: []string{"messages"}}
	var strange error
	st, err := layout.Open(dir, limit, log, func(_ store.Kind, key string, value []byte) {
		name, order, ok := split(key)
		if !ok {
			strange = fmt.Errorf("%s: %s/%s: a record is not this program's", layout.Key, dir, layout.File)
			return
		}
		s.keep(s.client(name), 1, size(name, len(value)))
		// Orders go on from those that are there, though the clock may have been put back.
		s.base = max(s.base, binary.BigEndian.Uint64(order[:])+1)
	})
	if err != nil {
		return nil, err
	}
	if s.store = st; strange != nil {
		return nil, errors.Join(strange, st.Close())
	}
	for _, c := range s.clients {
		s.ready(c)
	}
	return s, nil
}

func key(client string, o Order) string { return store.Key(client, string(o[:])) }

func split(key string) (client string, o Order, ok bool) {
	at := len(key) - len(o)
	if at < 1 || strings.IndexByte(key, 0) != at-1 {
		return "", o, false
	}
	copy(o[:], key[at:])
	return key[:at-1], o, true
}

// size is how much a record takes: its key, its checksum, and itself.
func size(client string, record int) int64 {
	const checksum = 4
	return int64(len(key(client, Order{})) + checksum + record)
}

// client is that of a name; s.mu is held, or nobody else has s yet.
func (s *Spool) client(name string) *client {
	c := s.clients[name]
	if c == nil {
		c = &client{name: name}
		s.clients[name] = c
	}
	return c
}

// keep counts what there is of a client; s.mu is held, or nobody else has s yet.
func (s *Spool) keep(c *client, messages int, bytes int64) {
	if c.kept.Messages == 0 {
		s.keeping++
	}
	c.kept.add(messages, bytes)
	s.used.add(messages, bytes)
	if c.kept.Messages == 0 {
		s.keeping--
	}
}

// tidy forgets a client of whom there is nothing; s.mu is held.
func (s *Spool) tidy(c *client) {
	if len(c.memory) == 0 && c.kept.Messages == 0 && !c.turn.taken {
		delete(s.clients, c.name)
	}
}

// Limit changes how many bytes the spool has.
func (s *Spool) Limit(bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = bytes
	s.free()
}

// Arrived enters a message of a client that arrived at this moment and is not on disk, and returns its order. Until Left, none that
// came later is drained.
func (s *Spool) Arrived(name string, at time.Time) (o Order) {
	s.mu.Lock()
	defer s.mu.Unlock()
	binary.BigEndian.PutUint64(o[:], s.base+uint64(at.Sub(s.origin)))
	binary.BigEndian.PutUint32(o[8:], s.serial)
	s.serial++
	c := s.client(name)
	i, _ := slices.BinarySearchFunc(c.memory, o, Order.compare)
	c.memory = slices.Insert(c.memory, i, o)
	return o
}

// Left is called when a message is not in memory any more, once.
func (s *Spool) Left(name string, o Order) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clients[name]
	if i, ok := slices.BinarySearchFunc(c.memory, o, Order.compare); ok {
		c.memory = slices.Delete(c.memory, i, i+1)
	}
	s.ready(c)
	s.tidy(c)
}

// Follows says whether a client has messages in the spool: what it sends now is to come after them. A closed spool holds nobody up.
func (s *Spool) Follows(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clients[name]
	return !s.closed && c != nil && c.kept.Messages > 0
}

// Reserve has room kept for a record of this many bytes, until it is put, or Cancel. No client gets more than is left when it has that: whoever
// comes later finds room, too (Choudhury and Hahne, Dynamic Queue Length Thresholds for Shared-Memory Packet Switches, 1998).
func (s *Spool) Reserve(name string, record int) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, c := size(name, record), s.client(name)
	defer s.tidy(c)
	switch left := s.limit - s.used.Bytes - n; {
	case s.closed:
		return false
	case c.kept.Bytes+n > left:
		s.counts.Refused[Full]++
	case c.kept.Messages == 0 && s.keeping >= Clients:
		s.counts.Refused[Crowded]++
	case s.onTheWay.Messages >= onTheWayMessages || s.onTheWay.Messages > 0 && s.onTheWay.Bytes+n > onTheWayBytes:
		s.counts.Refused[Disk]++
	default:
		s.keep(c, 1, n)
		s.onTheWay.add(1, n)
		return true
	}
	return false
}

// Cancel gives up what was reserved.
func (s *Spool) Cancel(name string, record int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clients[name]
	n := size(name, record)
	s.keep(c, -1, -n)
	s.onTheWay.add(-1, -n)
	s.tidy(c)
	s.free()
}

// Put writes a record for which there is room, and waits until it is on disk; false if the spool was closed first: then it may be
// there all the same where the disk has failed, and is not otherwise.
func (s *Spool) Put(name string, o Order, record []byte) (ok bool) {
	if s.begins() {
		defer s.puts.Done()
		ok = s.store.Put(messages, key(name, o), record) && s.store.Sync()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onTheWay.add(-1, -size(name, len(record)))
	s.free()
	if ok {
		s.counts.Put++
	}
	return ok
}

// begins enters one among the puts under way, unless the spool is closed.
func (s *Spool) begins() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.puts.Add(1)
	}
	return !s.closed
}

// Freed is closed when there may be room, or the spool is closed.
func (s *Spool) Freed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.freed == nil {
		s.freed = make(chan struct{})
	}
	return s.freed
}

// free tells who waits for room; s.mu is held.
func (s *Spool) free() {
	if s.freed != nil {
		close(s.freed)
		s.freed = nil
	}
}

// Stat is what there is in a spool.
type Stat struct {
	Size
	Counts
	Limit int64 // bytes
}

// Stat is what there is now.
func (s *Spool) Stat() Stat {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Stat{s.used, s.counts, s.limit}
	out.Ended = maps.Clone(out.Ended)
	return out
}

// Shut ends the drain, and what waits for the disk: the spool is not to wait for one that refuses. Close is to follow.
func (s *Spool) Shut() {
	s.Stop()
	s.store.Shut()
}

// Close ends the drain and closes the file, once, when the puts under way have ended.
func (s *Spool) Close() error {
	s.Stop()
	s.puts.Wait()
	return s.store.Close()
}
