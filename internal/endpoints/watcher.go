package endpoints

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/lograte"
)

// Watcher follows the sources of a configuration's functions.
type Watcher struct {
	log     *slog.Logger
	often   *lograte.Logger
	from    Sources
	changed chan struct{}
	wg      sync.WaitGroup
	dirs    directories // of files that are sources

	mu      sync.Mutex
	sources map[source]*followed
	news    uint64 // how often sources have begun, or said something else
	applied map[*config.Function]applied
}

// applied is what the latest Apply has made of a function.
type applied struct {
	with *config.Function
	news uint64 // the latest of its sources'
}

// followed is a source that is followed, for one function or several.
type followed struct {
	stop     context.CancelFunc
	pods     []Pod         // as it said last
	news     uint64        // the Watcher's when it did
	answered chan struct{} // closed when it has said anything, or that it cannot
	once     sync.Once
	err      error // why it could not be read the last time, or names none; nil: neither
	logged   bool  // that err was logged
}

// Sources are what some kinds of sources need; nil: there are none of the kind.
type Sources struct {
	Cluster Cluster // Services of Kubernetes
	Local   Local   // instances on this machine
}

// Watch begins to follow the sources of a configuration's functions; Close ends it.
func Watch(cfg *config.Config, from Sources, log *slog.Logger) *Watcher {
	w := &Watcher{log: log, from: from, often: lograte.New(log), changed: make(chan struct{}, 1), sources: make(map[source]*followed)}
	w.Follow(cfg)
	return w
}

// sourcesOf are a function's sources beside the addresses in the configuration.
func (w *Watcher) sourcesOf(fn *config.Function) (out []source) {
	for _, h := range fn.Hosts {
		out = append(out, dns{h})
	}
	if fn.Discover.File != "" {
		out = append(out, file{fn.Discover.File, &w.dirs})
	}
	if fn.Discover.DNS.Host != "" {
		out = append(out, dns{fn.Discover.DNS})
	}
	if fn.Discover.Service.Name != "" {
		out = append(out, kubernetes{fn.Discover.Service, w.from.Cluster})
	}
	if fn.Run != nil {
		out = append(out, local{fn.Name, fn.Run.Key(), w.from.Local})
	}
	return out
}

// Follow follows the sources of another configuration, too, if they are new.
func (w *Watcher) Follow(cfg *config.Config) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, fn := range cfg.Functions {
		for _, s := range w.sourcesOf(fn) {
			if w.sources[s] == nil {
				w.sources[s] = w.follow(s)
			}
		}
	}
}

// Keep follows no sources any more but those of a configuration. Until it is called
// a reload can be given up: what the sources before said is still known.
func (w *Watcher) Keep(cfg *config.Config) {
	wanted := make(map[source]bool)
	for _, fn := range cfg.Functions {
		for _, s := range w.sourcesOf(fn) {
			wanted[s] = true
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for s, f := range w.sources {
		if !wanted[s] {
			f.stop()
			delete(w.sources, s)
		}
	}
}

// Again has Changed sent to once more, after a while: what it was sent to for could
// not be done.
func (w *Watcher) Again() { time.AfterFunc(retryMax/6, w.change) }

func (w *Watcher) change() {
	select {
	case w.changed <- struct{}{}:
	default: // it will be looked at
	}
}

// follow begins to follow a source; w.mu is held.
func (w *Watcher) follow(s source) *followed {
	ctx, stop := context.WithCancel(context.Background())
	w.news++
	f := &followed{stop: stop, answered: make(chan struct{}), news: w.news}
	w.wg.Go(func() {
		s.follow(ctx, func(pods []Pod) { w.found(s, f, pods) }, func(err error) { w.failed(s, f, err) })
	})
	return f
}

// found is called when a source has said which pods there are.
func (w *Watcher) found(s source, f *followed, pods []Pod) {
	w.mu.Lock()
	changed := w.say(f, pods)
	repaired := f.logged
	f.err, f.logged = nil, false
	w.mu.Unlock()
	f.once.Do(func() { close(f.answered) })
	if repaired {
		w.log.Info("source of pods is back", "source", s.String(), "pods", len(pods))
	}
	if changed {
		w.change()
	}
}

// failed is called when a source has not said which pods there are, or why there are none.
func (w *Watcher) failed(s source, f *followed, err error) {
	w.mu.Lock()
	message := "source of pods cannot be read, what it said last stays"
	if f.pods == nil {
		message = "source of pods cannot be read"
	}
	none, changed := errors.Is(err, errNone), false
	if none {
		message = "source of pods names none"
		changed = w.say(f, []Pod{})
	}
	kept := len(f.pods)
	quiet := errors.Is(err, ErrLogged) || none && errors.Is(f.err, errNone) // it may be so for days
	f.err, f.logged = err, f.logged || !quiet
	w.mu.Unlock()
	f.once.Do(func() { close(f.answered) })
	if changed {
		w.change()
	}
	if !quiet {
		w.often.Warn(message, s.String(), "source", s.String(), "pods", kept, "error", err)
	}
}

// say notes which pods a source names, and returns whether these are others than before; w.mu is held.
func (w *Watcher) say(f *followed, pods []Pod) bool {
	same := slices.Equal(pods, f.pods)
	f.pods = pods
	if !same {
		w.news++
		f.news = w.news
	}
	return !same
}

// settleTime is how long a start waits for sources that do not answer.
const settleTime = 2 * time.Second

// Settle waits until every source has answered or said that it cannot, for
// settleTime at most, or until ctx ends.
func (w *Watcher) Settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	w.mu.Lock()
	var all []chan struct{}
	for _, f := range w.sources {
		all = append(all, f.answered)
	}
	w.mu.Unlock()
	for _, answered := range all {
		select {
		case <-answered:
		case <-ctx.Done():
			return
		}
	}
}

// Changed is sent to when Apply may give another result.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Apply is the configuration with the pods of each function as they are known now:
// those that it names, and those of its sources. A function that has the pods of the call before is
// the same one, so that it is seen at once that nothing of it has changed.
func (w *Watcher) Apply(cfg *config.Config) *config.Config {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := *cfg
	out.Functions = make([]*config.Function, len(cfg.Functions))
	before := w.applied
	w.applied = make(map[*config.Function]applied, len(cfg.Functions))
	for i, fn := range cfg.Functions {
		out.Functions[i] = fn
		sources := w.sourcesOf(fn)
		if len(sources) == 0 {
			continue
		}
		now := applied{news: w.latest(sources)}
		was := before[fn]
		if now.with = was.with; was.with == nil || was.news != now.news {
			if now.with = w.with(fn, sources); samePods(was.with, now.with) {
				now.with = was.with
			}
		}
		w.applied[fn] = now
		out.Functions[i] = now.with
	}
	return &out
}

// samePods says whether a function has the pods of before; nil: there is none.
func samePods(before, now *config.Function) bool {
	return before != nil && slices.Equal(before.Pods, now.Pods) && maps.Equal(before.Identities, now.Identities) && maps.Equal(before.Places, now.Places)
}

// latest is when some of these sources said something else last; w.mu is held.
func (w *Watcher) latest(sources []source) (news uint64) {
	for _, s := range sources {
		if f := w.sources[s]; f != nil {
			news = max(news, f.news)
		}
	}
	return news
}

// with is a function with the pods of its sources; w.mu is held.
func (w *Watcher) with(fn *config.Function, sources []source) *config.Function {
	all := *fn // its Identities and Places are of this result alone: a file names none
	all.Pods = slices.Clone(fn.Pods)
	for _, s := range sources {
		if f := w.sources[s]; f != nil {
			add(&all, f.pods)
		}
	}
	all.Pods = tidy(all.Pods)
	return &all
}

// add gives a function the pods of a source, with what that knows of them.
func add(fn *config.Function, pods []Pod) {
	if fn.Identities == nil {
		fn.Identities, fn.Places = make(config.Identities), make(config.Places)
	}
	for _, p := range pods {
		fn.Pods = append(fn.Pods, p.Address)
		if p.Identity != "" {
			fn.Identities[p.Address] = p.Identity
		}
		if p.Place != config.Nowhere {
			fn.Places[p.Address] = p.Place
		}
	}
}

// Close ends following.
func (w *Watcher) Close() {
	w.mu.Lock()
	for s, f := range w.sources {
		f.stop()
		delete(w.sources, s)
	}
	w.mu.Unlock()
	w.wg.Wait()
	w.often.Close()
}
