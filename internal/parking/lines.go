package parking

import (
	"sync"
	"time"

	"eproxy/internal/bpf"
)

// lookAgain is when who waits for something in a line looks again, whether the programs have told of it or not: their event may
// have been lost.
const lookAgain = time.Second

// lines are those of ordered routes, as far as somebody in userspace waits for the programs there.
type lines struct {
	mu      sync.Mutex
	waiting map[uint64]*watch // by name
}

// watch is who waits for something in one line.
type watch struct {
	again []func() // of Hold
	free  func()   // of Free, which is asked once for each message: as all ask for the same, one is told
	timer *time.Timer
}

// all is everybody who waits.
func (w *watch) all() []func() {
	if w.free == nil {
		return w.again
	}
	return append(w.again, w.free)
}

// Hold has userspace stand in front in a line: what the programs take of it from now on waits until its number is released. number 0: there is
// no room for that, but none of the programs' messages is in front either. ok false: there are some; again is called
// once, in a goroutine of its own, when that may have changed.
func (t *Queues) Hold(line uint64, again func()) (number uint32, ok bool) {
	args := t.ask(line, bpf.EproxyParkOpPARK_OP_HOLD, again, func(a *bpf.EproxyParkArgs) bool { return a.Ok == 1 })
	return args.Number, args.Ok == 1
}

// Free says whether userspace stands in front in a line just so many times, and no pod has a message of it. If not, again is called
// once, in a goroutine of its own, when that may have changed. Where several ask of one line it is that of the latest one.
func (t *Queues) Free(line uint64, held int, again func()) bool {
	free := func(a *bpf.EproxyParkArgs) bool { return a.Flight == 0 && int(a.Number) == held }
	args := t.ask(line, bpf.EproxyParkOpPARK_OP_WATCH, again, free)
	return free(&args)
}

// ask asks of a line; if the answer is not the one that is wanted it is asked again once somebody is told of what happens
// from then on, so that nothing is missed in between.
func (t *Queues) ask(line uint64, op bpf.EproxyParkOp, again func(), wanted func(*bpf.EproxyParkArgs) bool) bpf.EproxyParkArgs {
	for told := false; ; told = true {
		args, err := t.control(op, bpf.EproxyParkArgs{Line: line})
		if err != nil {
			t.Often.Warn("a line of an ordered route stays as it is", err.Error(), "error", err)
			args = bpf.EproxyParkArgs{Flight: 1}
		}
		if told || wanted(&args) {
			return args
		}
		t.lines.wait(line, op, again, func() { t.Moved(line) })
	}
}

// Release ends one of the times that userspace stands in front in a line, of this number. What stands behind leaves.
func (t *Queues) Release(line uint64, number uint32) {
	var args bpf.EproxyParkArgs
	var err error
	for args.Ok == 0 && err == nil { // a processor may just be putting the first message there
		args, err = t.control(bpf.EproxyParkOpPARK_OP_RELEASE, bpf.EproxyParkArgs{Number: number})
	}
	if err != nil {
		t.Often.Warn("a line of an ordered route stays as it is", err.Error(), "error", err)
	}
	if args.Waits == 1 {
		t.Tend(args.Queue)
	}
	t.Moved(line)
}

// Moved tells who waits for something in a line that it may have happened.
func (t *Queues) Moved(line uint64) {
	for _, f := range t.lines.take(line) {
		if t.ctx.Err() == nil {
			go f()
		}
	}
}

// wait has again, of who has asked this, called when something has happened in a line; late, if nobody tells of it.
func (l *lines) wait(line uint64, asked bpf.EproxyParkOp, again, late func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.waiting[line]
	if w == nil {
		w = &watch{timer: time.AfterFunc(lookAgain, late)}
		if l.waiting == nil {
			l.waiting = make(map[uint64]*watch)
		}
		l.waiting[line] = w
	}
	if asked == bpf.EproxyParkOpPARK_OP_WATCH {
		w.free = again
	} else {
		w.again = append(w.again, again)
	}
}

// take is who is to be told of what has happened in a line; they wait no more.
func (l *lines) take(line uint64) []func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.waiting[line]
	if w == nil {
		return nil
	}
	delete(l.waiting, line)
	w.timer.Stop()
	return w.all()
}
