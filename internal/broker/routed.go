package broker

import "eproxy/internal/config"

// routed is what a topic was found to lead to under some rules: most clients publish to one topic.
type routed struct {
	under *byte // rules.same: sessions of long ago keep no configuration in memory
	topic string
	route *config.Route // nil: none
}

// route is the route of a topic under these rules, or nil; remembered for the session's next message.
func (s *Session) route(r *rules, topic string) *config.Route {
	if last := s.routed.Load(); last != nil && last.under == r.same && last.topic == topic {
		return last.route
	}
	found := &routed{r.same, topic, r.route(topic)}
	s.routed.Store(found)
	return found.route
}

// Routed says whether a topic is one of a route's, now: such a message is never an ordinary one.
func (s *Session) Routed(topic string) bool { return s.route(s.server.rules.Load(), topic) != nil }
