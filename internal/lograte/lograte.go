// Package lograte logs what may happen very often: the first time at once, from
// then on as a count, so that an operator sees it at the default level and
// nobody can fill the disk with it.
package lograte

import (
	"log/slog"
	"sync"
	"time"
)

const (
	// Interval is how often a count is logged while there is something to count.
	Interval = time.Minute
	// maxKeys bounds the memory: keys may come from clients. What comes beyond is
	// counted together, by message.
	maxKeys = 1024
)

// Logger logs each (message, key) once and then its count per Interval. The
// zero value is not usable; a nil *Logger logs nothing.
type Logger struct {
	log *slog.Logger

	mu      sync.Mutex
	events  map[id]*event
	stopped bool
}

// id is what counts as the same event.
type id struct{ message, key string }

// event is one that was logged less than two intervals ago.
type event struct {
	args  []any // of the latest occurrence
	more  int   // occurrences since the last line
	timer *time.Timer
}

// New makes a Logger that writes to log at level Warn.
func New(log *slog.Logger) *Logger {
	return &Logger{log: log, events: make(map[id]*event)}
}

// Warn logs the message with args (key-value pairs, as slog's) if this is the
// first occurrence for the key, and counts it otherwise. Once per Interval the
// count is logged with the args of the latest occurrence. An Interval without
// any ends the matter: the next occurrence is a first one again. The key should
// name what an operator can act on (a function's pod, an interface), not what
// differs with each occurrence.
func (l *Logger) Warn(message, key string, args ...any) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return
	}
	k := id{message, key}
	if l.events[k] == nil && len(l.events) >= maxKeys {
		k.key = ""
	}
	if e := l.events[k]; e != nil {
		e.args = args
		e.more++
		return
	}
	l.log.Warn(message, args...)
	e := &event{}
	e.timer = time.AfterFunc(Interval, func() { l.tick(k, e) })
	l.events[k] = e
}

// tick ends an interval of an event.
func (l *Logger) tick(k id, e *event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return
	}
	if e.more == 0 {
		delete(l.events, k)
		return
	}
	l.summarise(k, e)
	e.timer.Reset(Interval)
}

// summarise logs a count; l.mu is held.
func (l *Logger) summarise(k id, e *event) {
	l.log.Warn(k.message, append(e.args[:len(e.args):len(e.args)], "more_in_last_minute", e.more)...)
	e.args, e.more = nil, 0
}

// Close logs the counts that are due later, and nothing from then on.
func (l *Logger) Close() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	for k, e := range l.events {
		e.timer.Stop()
		if e.more > 0 {
			l.summarise(k, e)
		}
	}
	clear(l.events)
}
