package broker

import "eproxy/internal/topic"

// Explanation is what the server knows of a client and a topic.
type Explanation struct {
	Client     *Client       `json:"client,omitempty"` // nil: it is not connected
	Link       string        `json:"link,omitempty"`   // far end of its TCP connection, if the kernel path has that; empty: it does not
	MayPublish bool          `json:"may_publish"`      // the client, to the topic
	Reserved   bool          `json:"reserved"`         // the topic is the server's own
	Draining   bool          `json:"draining"`         // the server is about to end, and delivers nothing more
	Route      *RouteOfTopic `json:"route,omitempty"`  // nil: what is published there goes to subscribers alone
	Refusals   []Refusal     `json:"refusals"`         // of the client, the latest first
}

// RouteOfTopic is a route that a topic takes.
type RouteOfTopic struct {
	Filter     string   `json:"filter"`
	Functions  []string `json:"functions"`
	AlsoBroker bool     `json:"also_broker"`
	Ordered    bool     `json:"ordered"`
	Userspace  string   `json:"userspace,omitempty"` // what keeps its messages in userspace (config.Route.Graftable); empty: nothing
}

// Explain says what would become of a message of this client to this topic, as far as the
// server decides it.
func (s *Server) Explain(clientID, name string) Explanation {
	e := Explanation{Reserved: topic.Reserved(name), Draining: s.drained.Load(), Refusals: s.refusals.of(clientID)}
	r := s.rules.Load()
	if x := s.sessions.find(clientID); x != nil {
		c := x.describe()
		e.Client, e.Link = &c, x.grafted()
		e.MayPublish, _, _, r = s.judged(x, name)
	}
	e.Route = r.describe(name)
	return e
}

// RouteOf is the route that a topic takes now, nil: none.
func (s *Server) RouteOf(name string) *RouteOfTopic { return s.rules.Load().describe(name) }

// describe is route for people.
func (r *rules) describe(name string) *RouteOfTopic {
	route := r.route(name)
	if route == nil {
		return nil
	}
	d := &RouteOfTopic{Filter: route.Filter, Functions: route.Functions, AlsoBroker: route.AlsoBroker, Ordered: route.Ordered}
	if fn := r.functions[route.Functions[0]]; fn != nil {
		d.Userspace, _ = route.Graftable(fn)
	}
	return d
}

// grafted is the far end of the connection that the kernel path has, which the header of a proxy may not name; empty: it has none.
func (s *Session) grafted() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.graft == nil || s.over {
		return ""
	}
	return s.conn.RemoteAddr().String()
}
