package trace

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"strconv"
	"time"

	"eproxy/internal/abi"
	"eproxy/internal/topic"
)

// The paths of messages that are shown.
const (
	Kernel   = "kernel"   // programs made the request and the acknowledgement
	Parked   = "parked"   // the same, after waiting in the kernel for a connection
	Left     = "left"     // the programs left it to the server: it comes again on the path that it takes then, if it has a route
	Fallback = "fallback" // userspace finished it
	Refused  = "refused"  // the server did not accept it
	Lost     = "lost"     // not a message: how many could not be shown
)

// Delivered is the outcome of a message that its function has answered 2xx.
const Delivered = "delivered"

// Event is what became of a message.
type Event struct {
	Time     time.Time     `json:"time"` // when that was known
	Client   string        `json:"client,omitempty"`
	Topic    string        `json:"topic,omitempty"`
	TopicCut bool          `json:"topic_cut,omitempty"` // the topic is longer
	QoS      byte          `json:"qos"`
	Path     string        `json:"path"`
	Hook     string        `json:"hook,omitempty"`   // of the programs: which had it
	Reason   string        `json:"reason,omitempty"` // why the programs took or left it (REASONS.md), or the server refused it (METRICS.md)
	Route    string        `json:"route,omitempty"`
	Function string        `json:"function,omitempty"`
	Pod      string        `json:"pod,omitempty"`     // that answered a request of the programs
	Status   int           `json:"status,omitempty"`  // of the response; 0: none, or it is not known
	Outcome  string        `json:"outcome,omitempty"` // of a routed message (METRICS.md)
	Took     time.Duration `json:"took_ns,omitempty"` // from PUBLISH to the outcome
	Waited   time.Duration `json:"waited_ns,omitempty"`
	Lost     uint64        `json:"lost,omitempty"` // messages that could not be shown since the last such line
}

// Filter says which messages are to be shown: those of which all of this is true.
type Filter struct {
	Client   string  // its identifier; empty: any
	Topic    string  // a topic filter; empty: any
	Function string  // that gets it; empty: any
	Reason   string  // why it was taken, left or refused, or its outcome; empty: any
	Status   int     // of the response; 0: any, or none
	Sample   float64 // which part of them, above 0, up to 1: all
}

// Check says in one line what is wrong with a filter.
func (f *Filter) Check() error {
	if f.Topic != "" {
		if err := topic.ValidateFilter(f.Topic); err != nil {
			return fmt.Errorf("topic %q: %w", f.Topic, err)
		}
		if len(f.Topic) > abi.TopicMax {
			return fmt.Errorf("topic %q: longer than %d bytes", f.Topic, abi.TopicMax)
		}
	}
	if f.Status != 0 && (f.Status < 100 || f.Status > 599) {
		return fmt.Errorf("status %d: must be 100 to 599", f.Status)
	}
	if !(f.Sample > 0 && f.Sample <= 1) {
		return fmt.Errorf("sample %v: must be above 0, and at most 1", f.Sample)
	}
	return nil
}

// Values are the filter as a query.
func (f *Filter) Values() url.Values {
	return url.Values{"client": {f.Client}, "topic": {f.Topic}, "function": {f.Function}, "reason": {f.Reason},
		"status": {strconv.Itoa(f.Status)}, "sample": {strconv.FormatFloat(f.Sample, 'g', -1, 64)}}
}

// ParseValues is what Values made.
func ParseValues(v url.Values) (Filter, error) {
	f := Filter{Client: v.Get("client"), Topic: v.Get("topic"), Function: v.Get("function"), Reason: v.Get("reason")}
	var err error
	if f.Status, err = strconv.Atoi(v.Get("status")); err != nil {
		return f, fmt.Errorf("status %q: must be a number", v.Get("status"))
	}
	if f.Sample, err = strconv.ParseFloat(v.Get("sample"), 64); err != nil {
		return f, fmt.Errorf("sample %q: must be a number", v.Get("sample"))
	}
	return f, f.Check()
}

// matches says whether an event of userspace, whose topic is whole, is asked for.
func (f *Filter) matches(e *Event) bool {
	return (f.Topic == "" || e.Topic != "" && topic.Match(f.Topic, e.Topic)) &&
		(f.Client == "" || f.Client == e.Client) &&
		(f.Function == "" || f.Function == e.Function) &&
		(f.Reason == "" || f.Reason == e.Reason || f.Reason == e.Outcome) &&
		(f.Status == 0 || f.Status == e.Status)
}

// sampled says whether a message is one of those that are shown.
func (f *Filter) sampled() bool { return f.Sample >= 1 || rand.Float64() < f.Sample }
