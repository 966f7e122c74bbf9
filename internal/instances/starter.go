package instances

import "runtime"

// starter starts processes from one thread that lives as long as it does: the kernel
// kills them when the thread that started them ends (PR_SET_PDEATHSIG, prctl(2)).
type starter struct{ work chan func() }

func newStarter() *starter {
	s := &starter{work: make(chan func())}
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		for f := range s.work {
			f()
		}
	}()
	return s
}

// do runs f on the thread.
func (s *starter) do(f func()) {
	done := make(chan struct{})
	s.work <- func() { defer close(done); f() }
	<-done
}

// close ends the thread, and with it whatever was started and still runs.
func (s *starter) close() { close(s.work) }
