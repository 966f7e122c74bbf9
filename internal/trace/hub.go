package trace

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// ErrBusy means that somebody else looks.
var ErrBusy = errors.New("somebody else looks at messages already; only one can at a time")

const (
	// backlog is how many events may wait to be shown.
	backlog = 1024
	// lostInterval is how often it is said that some could not be shown.
	lostInterval = time.Second
)

// Programs show what they do with messages.
type Programs interface {
	// Watch has them shown until stop is called, which returns when nothing more will be. lost is how many could not be
	// shown since it was last called. The filter is valid.
	Watch(f Filter, show func(Event)) (lost func() uint64, stop func(), err error)
}

// Hub brings what becomes of messages to who looks. A nil *Hub has nobody.
type Hub struct {
	programs Programs // nil: there are none
	// Routed says where a topic leads; empty: nowhere. Of what the programs leave they do not know it. It may be nil, and is
	// set before anybody looks.
	Routed func(topic string) (route string, functions []string)

	watch atomic.Pointer[watch]
}

// NewHub shows what userspace says, and what programs show.
func NewHub(p Programs) *Hub { return &Hub{programs: p} }

// watch is somebody who looks.
type watch struct {
	filter Filter
	events chan Event
	lost   atomic.Uint64
}

// On says whether somebody looks: only then it is worth while to say what became of a message.
func (h *Hub) On() bool { return h != nil && h.watch.Load() != nil }

// Ended says what became of a message in userspace. It never waits.
func (h *Hub) Ended(e Event) {
	if !h.On() {
		return
	}
	if w := h.watch.Load(); w != nil && w.filter.matches(&e) && w.filter.sampled() {
		w.push(e)
	}
}

func (w *watch) push(e Event) {
	select {
	case w.events <- e:
	default:
		w.lost.Add(1)
	}
}

// Watch shows messages until ctx ends or show fails; begun is called when everything from then on is shown. ErrBusy: somebody
// looks already.
func (h *Hub) Watch(ctx context.Context, f Filter, begun func() error, show func(Event) error) error {
	if err := f.Check(); err != nil {
		return err
	}
	w := &watch{filter: f, events: make(chan Event, backlog)}
	if !h.watch.CompareAndSwap(nil, w) {
		return ErrBusy
	}
	defer h.watch.Store(nil)
	lost := w.lost.Load
	if h.programs != nil {
		theirs, stop, err := h.programs.Watch(f, func(e Event) { h.shown(w, e) })
		if err != nil {
			return err
		}
		defer stop()
		lost = func() uint64 { return w.lost.Load() + theirs() }
	}
	if err := begun(); err != nil {
		return err
	}
	return w.run(ctx, lost, show)
}

// shown passes on what the programs show: they have judged all but the function of what they left.
func (h *Hub) shown(w *watch, e Event) {
	if e.Path == Left {
		var functions []string
		if h.Routed != nil && e.Topic != "" && !e.TopicCut {
			e.Route, functions = h.Routed(e.Topic)
		}
		if w.filter.Function != "" && !slices.Contains(functions, w.filter.Function) {
			return
		}
		e.Function = strings.Join(functions, ",")
	}
	w.push(e)
}

// run shows events, and once in a while how many could not be. lost is how many so far.
func (w *watch) run(ctx context.Context, lost func() uint64, show func(Event) error) error {
	said := uint64(0)
	tick := time.NewTicker(lostInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return w.rest(show)
		case e := <-w.events:
			if err := show(e); err != nil {
				return err
			}
		case <-tick.C:
			n := lost()
			if n == said {
				continue
			}
			if err := show(Event{Time: time.Now(), Path: Lost, Lost: n - said}); err != nil {
				return err
			}
			said = n
		}
	}
}

// rest shows what came before the end.
func (w *watch) rest(show func(Event) error) error {
	for {
		select {
		case e := <-w.events:
			if err := show(e); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}
