package instances

import (
	"testing"
	"time"

	"eproxy/internal/config"
)

// forked is a function in Python whose instances are forked.
func forked(run *config.Run) *config.Run {
	run.Zygote, run.Lambda = config.ZygotePython, time.Hour
	return run
}

func TestZygote(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	stop := w.run("f", forked(says("open('/proc/self/status').read()")))
	pod := w.found("f", 1)[0]
	t.Log(get(t, pod))
	t.Logf("%+v", w.r.Functions())
	t.Logf("%+v", w.r.Instances())
	stop()
	w.close()
	t.Log(w.log)
}
