package broker

import (
	"container/list"
	"net/netip"
	"slices"
	"sync"
	"time"

	"eproxy/internal/trace"
)

// What is remembered of refusals is bounded, whoever brings them about: clients choose
// their identifiers, and who is refused need not be a client at all.
const (
	refusedClients   = 256 // that something is remembered of; the one that was refused longest ago gives way
	refusalsOfClient = 8   // the latest
	refusalText      = 256 // bytes of an identifier or topic; longer identifiers are not remembered, longer topics are cut
)

// Refusal is something that a client was refused.
type Refusal struct {
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"` // label of eproxy_refused_total
	Text   string    `json:"text"`   // for people
	Topic  string    `json:"topic,omitempty"`
	Remote string    `json:"remote"` // whoever called itself by the client's identifier
}

// refusals are the latest of each client identifier. The zero value is empty.
type refusals struct {
	mu     sync.Mutex
	byName map[string]*list.Element
	order  list.List // of *refusedClient, the latest refusal first
}

type refusedClient struct {
	name   string
	latest []Refusal // oldest first
}

// add remembers a refusal of who calls itself by this client identifier.
func (r *refusals) add(client string, x Refusal) {
	if client == "" || len(client) > refusalText {
		return
	}
	x.Topic = x.Topic[:min(len(x.Topic), refusalText)]
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byName == nil {
		r.byName = make(map[string]*list.Element)
	}
	e := r.byName[client]
	if e == nil {
		e = r.order.PushFront(&refusedClient{name: client})
		r.byName[client] = e
	}
	r.order.MoveToFront(e)
	c := e.Value.(*refusedClient)
	if len(c.latest) == refusalsOfClient {
		c.latest = slices.Delete(c.latest, 0, 1)
	}
	c.latest = append(c.latest, x)
	if r.order.Len() > refusedClients {
		oldest := r.order.Remove(r.order.Back()).(*refusedClient)
		delete(r.byName, oldest.name)
	}
}

// of are the latest refusals of a client, the latest first.
func (r *refusals) of(client string) []Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.byName[client]
	if e == nil {
		return nil
	}
	out := slices.Clone(e.Value.(*refusedClient).latest)
	slices.Reverse(out)
	return out
}

// remember notes a refusal for who asks about its client. args are as of slog.
func (s *Server) remember(reason, text string, remote netip.AddrPort, args []any) {
	x := Refusal{Time: time.Now(), Reason: reason, Text: text, Remote: remote.String()}
	client := ""
	for i := 0; i+1 < len(args); i += 2 {
		value, _ := args[i+1].(string)
		switch args[i] {
		case "client":
			client = value
		case "topic":
			x.Topic = value
		}
	}
	s.refusals.add(client, x)
	s.opts.Tracer.Ended(trace.Event{Time: x.Time, Client: client, Topic: x.Topic, Path: trace.Refused, Reason: reason})
}
