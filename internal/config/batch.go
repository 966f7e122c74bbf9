package config

import "time"

// Batch says how many messages of a function go in one request, as a CloudEvents JSON batch.
type Batch struct {
	MaxMessages int
	MaxBytes    int           // of the body
	Linger      time.Duration // after its first message a batch goes, whatever it has
}

// Defaults and bounds of a Batch.
const (
	defaultBatchMessages = 100
	maxBatchMessages     = 1000
	defaultBatchBytes    = 256 << 10
	minBatchBytes        = 1 << 10
	maxBatchBytes        = 16 << 20
	defaultLinger        = 50 * time.Millisecond
	maxLinger            = time.Minute
)

// batch reads how a function's messages go together.
func (b *builder) batch(path string, f *Function, r *rawBatch) *Batch {
	if r == nil {
		return nil
	}
	out := &Batch{
		MaxMessages: b.number(path+".max_messages", r.MaxMessages, defaultBatchMessages, 1, maxBatchMessages),
		MaxBytes:    b.number(path+".max_bytes", r.MaxBytes, defaultBatchBytes, minBatchBytes, maxBatchBytes),
		Linger:      b.duration(path+".linger", r.Linger, defaultLinger),
	}
	if out.Linger > maxLinger || out.Linger >= f.Deadline && f.Deadline > 0 {
		b.fail(path+".linger", "function %q: batch.linger %s: must be at most %s, and less than the deadline, %s", f.Name, out.Linger, maxLinger, f.Deadline)
	}
	return out
}

// mode reads how a function's events are written.
func (b *builder) mode(path string, r *rawFunction) (structured bool) {
	switch r.CloudEvents.Mode {
	case "", "binary":
		if r.CloudEvents.Mode != "" && r.Batch != nil {
			b.fail(path, "function %q: cloudevents.mode binary: a batch is JSON, leave it out", r.Name)
		}
		return false
	case "structured":
		return true
	}
	b.fail(path, "function %q: cloudevents.mode %q: must be binary or structured", r.Name, r.CloudEvents.Mode)
	return false
}

// Graftable says whether the function's requests can be made in the kernel; otherwise why says what userspace alone can do.
func (f *Function) Graftable() (why string, ok bool) {
	switch {
	case f.Batch != nil:
		return "batch", false
	case f.CloudEvents.Structured:
		return "cloudevents.mode: structured", false
	case f.CloudEvents.FromPublisher:
		return "cloudevents.from_publisher: payloads may be events", false
	}
	return "", true
}

// Graftable says whether messages of the route can be taken in the kernel by one of its functions, for what both are; otherwise why
// says what keeps them in userspace.
func (r *Route) Graftable(fn *Function) (why string, ok bool) {
	if r.AlsoBroker && r.kept != "" {
		return "also_broker, and " + r.kept, false
	}
	if r.Ordered && fn.Queue.Spool != nil {
		return "ordered, and the messages before may be in the function's spool", false // of which the programs know nothing
	}
	return fn.Graftable()
}
