package explain

import (
	"fmt"
	"math/bits"
	"strings"
	"time"

	"eproxy/internal/abi"
	"eproxy/internal/pinned"
	"eproxy/internal/reason"
)

// The paths that a message may take.
const (
	None     = "none"     // there is nobody to send it, or nobody who takes it
	Refused  = "refused"  // the server does not accept it
	Broker   = "broker"   // it goes to subscribers alone
	Kernel   = "kernel"   // programs make the request of it
	Parked   = "parked"   // programs make the request of it, which waits in the kernel for a connection
	Fallback = "fallback" // userspace makes the request
	Waits    = "waits"    // in userspace, until a pod takes messages or its time is up
)

// Step is one thing that is looked at, and what that means for the message.
type Step struct {
	Subject string // client, rights, route, connection, function, path, or refusal
	Result  string
	Why     string
	Advice  string // what would change it; empty: nothing need be
}

// Of explains a message. The step whose subject is path is the outcome; what the client was
// refused last comes behind it.
func Of(f *Facts) []Step {
	var steps []Step
	add := func(s Step) { steps = append(steps, s) }
	outcome, why, advice := f.outcome(add)
	add(Step{"path", outcome, why, advice})
	if f.Flow != nil && f.Flow.NotTaken != "" {
		add(Step{"not taken", f.Flow.NotTaken, "the latest message of this connection that the programs left to the server: " + text(f.Flow.NotTaken), adviceOf[f.Flow.NotTaken]})
	}
	for _, r := range f.Server.Refusals {
		why := fmt.Sprintf("%s %s, from %s", r.Time.UTC().Format(time.RFC3339), r.Text, r.Remote)
		if r.Topic != "" {
			why += fmt.Sprintf(", topic %q", r.Topic)
		}
		add(Step{"refusal", r.Reason, why, adviceOf[r.Reason]})
	}
	return steps
}

// outcome goes through what decides, and adds a step for each.
func (f *Facts) outcome(add func(Step)) (path, why, advice string) {
	s := &f.Server
	if s.Client == nil {
		add(Step{"client", "not connected", "no client of this identifier is connected to this node", ""})
	} else {
		add(Step{"client", "connected", fmt.Sprintf("MQTT %s from %s since %s", s.Client.Version, s.Client.Remote, s.Client.Since.UTC().Format(time.RFC3339)), ""})
		rights := Step{"rights", "allowed", "it may publish to: " + s.Client.Rights, ""}
		switch {
		case s.Reserved:
			rights = Step{"rights", "refused", "the topic is the server's own", "publish to another topic"}
		case !s.MayPublish:
			rights = Step{"rights", "refused", rights.Why, adviceOf["not_authorized"]}
		}
		add(rights)
	}
	if s.Route == nil {
		add(Step{"route", "none", "no route matches the topic", "add one if a function is to get it: mapsctl routes add"})
	} else {
		add(Step{"route", s.Route.Filter, "to " + strings.Join(s.Route.Functions, ", "), ""})
	}
	switch {
	case s.Client == nil:
		return None, "the client is not connected", ""
	case s.Reserved || !s.MayPublish:
		return Refused, "not_authorized: the client may not publish to this topic", adviceOf["not_authorized"]
	case s.Route == nil:
		return Broker, "no_route: it goes to subscribers", ""
	case s.Draining:
		return None, "the loader is about to end: the message stays unacknowledged, and its client sends it again", ""
	}
	left := f.leftBy()
	f.describe(add, left)
	switch {
	case left == "" && s.Route.Ordered:
		return Kernel, "taken: at TC, and sent when the client's message before it on this route has its outcome; the server gets it instead while it may still have one that came before (order_unknown)", ""
	case left == "" && f.idle() && s.Route.AlsoBroker:
		return Kernel, f.hook() + "; subscribers get a copy. The server gets it instead while it may still have one that came before (order_unknown), or has too many copies to read (copies_full)", ""
	case left == "" && f.idle():
		return Kernel, f.hook(), ""
	case left == "":
		return Parked, fmt.Sprintf("parked: no connection to a pod is idle, %d messages wait", f.Function.Waiting), adviceOf["no_slot"]
	case !f.served():
		return Waits, "no pod of the function gets messages: it waits until one does, or its deadline is over", "see the states of the pods and why they have them: mapsctl pods"
	}
	return Fallback, left + ": " + text(left), adviceOf[left]
}

// describe adds what connection and function are like.
func (f *Facts) describe(add func(Step), left string) {
	c := Step{"connection", "fallback", "the programs do not know it", adviceOf["not_open"]}
	if f.Flow != nil {
		c = Step{"connection", f.Flow.State, fmt.Sprintf("%d messages in flight of at most %d, %d taken so far", f.Flow.InFlight, f.Flow.InFlightMax, f.Flow.Taken), ""}
		if left == "not_open" {
			c.Advice = adviceOf[left]
		}
	}
	add(c)
	if f.Function == nil {
		return
	}
	slots, idle := 0, 0
	for _, p := range f.Pods {
		slots += p.Connected
		idle += bits.OnesCount64(p.Idle)
	}
	add(Step{"function", f.Function.Name, fmt.Sprintf("%d pods in the kernel path with %d connections, %d of them idle; %d other pods; %d messages wait",
		len(f.Pods), slots, idle, len(f.Left), f.Function.Waiting), ""})
}

// leftBy is the reason (REASONS.md) for which the programs leave the message to userspace, in
// their order; empty: they take it.
func (f *Facts) leftBy() string {
	m, r, c := &f.Message, f.Server.Route, f.Flow
	switch {
	case f.Draining || c == nil || c.State != "open" || c.Stopped:
		return "not_open"
	case c.Lost:
		return "lost_track"
	case c.InFlight >= c.InFlightMax:
		return "ring_full"
	case m.QoS == 2:
		return "qos2"
	case m.Retain:
		return "retain"
	case m.Properties:
		return "properties"
	case m.Size > abi.PayloadMax:
		return "too_large"
	case len(m.Topic) > abi.TopicMax || longLevel(m.Topic):
		return "topic_long"
	case len(r.Functions) > 1 || f.Function == nil || len(f.Pods) == 0 || r.Userspace != "":
		return "route_fallback"
	case !c.RightsAll && !f.Granted:
		return "not_granted"
	case !f.sameFamily():
		return "family"
	case !f.connected():
		return "no_slot"
	}
	return ""
}

// longLevel says whether a level of the topic is longer than the programs look up.
func longLevel(topic string) bool {
	for l := range strings.SplitSeq(topic, "/") {
		if len(l) > abi.LevelMax {
			return true
		}
	}
	return false
}

// usable are the pods that the programs can send this client's messages to.
func (f *Facts) usable() (out []pinned.Pod) {
	for _, p := range f.Pods {
		if p.State == "ready" && p.Address.Addr().Is4() == f.Flow.Remote.Addr().Is4() {
			out = append(out, p)
		}
	}
	return out
}

func (f *Facts) sameFamily() bool { return len(f.usable()) > 0 }

// connected says whether a pod has a connection that is in use or idle: only then messages wait for it.
func (f *Facts) connected() bool {
	for _, p := range f.usable() {
		if p.Connected > 0 {
			return true
		}
	}
	return false
}

// idle says whether a message would leave at once: nothing waits, and a pod has room.
func (f *Facts) idle() bool {
	if f.Function.Waiting > 0 {
		return false
	}
	for _, p := range f.usable() {
		if p.Room != 0 || p.Idle != 0 && bits.OnesCount64(p.Busy)+p.Fallback < p.Concurrency {
			return true
		}
	}
	return false
}

// hook says where a message that is taken is.
func (f *Facts) hook() string {
	why := ""
	for _, p := range f.usable() {
		if p.XDP && !f.XDPIdle {
			return "taken: at XDP, or at TC if it comes with others in one segment, or its request's head is longer than XDP has room for"
		}
		why = p.Reason
	}
	if why == "" {
		return "taken: at TC"
	}
	return "taken: at TC, since for XDP: " + why
}

// served says whether some pod of the functions gets messages at all. Of several functions the
// maps do not say it here: their messages are the fallback's.
func (f *Facts) served() bool {
	if f.Function == nil || len(f.Pods) > 0 {
		return true
	}
	for _, p := range f.Left {
		if p.State == "ready" {
			return true
		}
	}
	return false
}

// text is what a reason of the programs means.
func text(name string) string {
	for _, r := range reason.All {
		if r.Name == name {
			return r.Text
		}
	}
	return ""
}
