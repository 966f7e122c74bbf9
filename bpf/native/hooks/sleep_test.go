//go:build cgo

package hooks

import "fmt"

// Pods that sleep: what is checked of them, and the scenarios. In the model a pod's processes are frozen while it is not
// awake, and userspace lets them go on once it is told that there is something for them.

// Userspace puts the pod to sleep, or says that it runs again.
var (
	rest  = Step{kind: StepSleep, op: PodRest}
	awake = Step{kind: StepSleep, op: PodWoken}
)

// overslept says whether a sleeping pod has something to do that userspace does not know of.
func (w *world) overslept() error {
	p := w.m.Pod(0)
	switch needed := p.busy != 0 || p.fallback != 0; {
	case p.sleep == PodAsleep && needed:
		return fmt.Errorf("slots %#x are busy, the fallback has %d requests, and the pod sleeps", p.busy, p.fallback)
	case p.sleep == PodWaking && w.roused == 0:
		return fmt.Errorf("the pod is to be woken, and nobody was told")
	case p.sleep == PodWaking && !needed && w.m.Queue(0).count == 0 && !w.vain:
		return fmt.Errorf("the pod is woken for nothing")
	}
	return nil
}

// wakePod is what userspace does when it is told that the pod has something to do.
func (w *world) wakePod() error {
	if w.roused == 0 {
		return nil
	}
	if w.roused > 1 {
		return fmt.Errorf("userspace is told %d times that the pod is to be woken", w.roused)
	}
	w.roused = 0
	if w.m.Pod(0).sleep == PodAwake {
		return nil
	}
	return w.run(awake)
}

var sleepScenarios = append([]scenario{
	{"pod is put to sleep while the fallback wants a place", 1, 1, func(*world) [][]Step {
		return [][]Step{{rest}, {enter}}
	}},
	{"pod is put to sleep while the response comes", 1, 1, func(w *world) [][]Step {
		w.open(w.device(4, "d0", 40000), 7, "one")
		return [][]Step{{rest}, {w.responseFrame(0)}}
	}},
	{"pod is put to sleep while the response comes and a message is parked", 1, 1, func(w *world) [][]Step {
		_, b := w.saturated(1, 0)
		m := w.publish(b, 7, 1, payload("one", 60))
		return [][]Step{{w.responseFrame(0)}, {w.send(m, false)}, {rest}}
	}},
	{"the sweeper looks at a pod that is put to sleep while a message is taken", 1, 1, func(w *world) [][]Step {
		m := w.publish(w.device(4, "d0", 40000), 7, 1, payload("one", 60))
		return [][]Step{{w.send(m, true)}, {rest}, {{kind: StepSweep}}}
	}},
}, both(func(path string, xdp bool) []scenario {
	return []scenario{
		{"pod is put to sleep while a message is taken, " + path, 1, 1, func(w *world) [][]Step {
			m := w.publish(w.device(4, "d0", 40000), 7, 1, payload("one", 60))
			return [][]Step{{rest}, {w.send(m, xdp)}}
		}},
		{"pod that sleeps gets two messages at once, " + path, 2, 1, func(w *world) [][]Step {
			w.do(rest)
			return twoPublish(xdp, 0)(w)
		}},
		{"pod wakes and is put to sleep again while a message is taken, " + path, 1, 1, func(w *world) [][]Step {
			m := w.publish(w.device(4, "d0", 40000), 7, 1, payload("one", 60))
			w.do(rest)
			return [][]Step{{awake, rest}, {w.send(m, xdp)}}
		}},
		{"pod is put to sleep while the same message comes twice, " + path, 2, 1, func(w *world) [][]Step {
			m := w.publish(w.device(4, "d0", 40000), 7, 1, payload("one", 60))
			w.vain = true // the one that is taken back has woken it
			return [][]Step{{w.send(m, xdp)}, {w.send(m, xdp)}, {rest}}
		}},
	}
})...)
