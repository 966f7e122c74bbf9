package spans

import "time"

// lostSpans are those that no collector has, by why.
type lostSpans struct{ dropped, failed, rejected uint64 }

func (l lostSpans) sum() uint64 { return l.dropped + l.failed + l.rejected }

// tell has a line in the log while spans are lost, now and then, whatever the collector answers: an outage that says so once
// and then lasts for hours looks like one that is over.
func (e *Exporter) tell() {
	now := lostSpans{e.droppedSoFar(), e.failed.Load(), e.rejected.Load()}
	if now == e.told || time.Since(e.toldAt) < tellEvery {
		return
	}
	e.log.Warn("spans are lost", "spans", now.sum()-e.told.sum(), "dropped_so_far", now.dropped, "failed_so_far", now.failed, "rejected_so_far", now.rejected)
	e.told, e.toldAt = now, time.Now()
}
