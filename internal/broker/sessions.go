package broker

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// sessions are those that are open, by client identifier.
type sessions struct {
	mu   sync.Mutex
	open map[string]*Session
	next *rules // that restrict those in place until they replace them; nil: none
}

// swap enters a session and returns the one that it takes over, nil if there is
// none. rules are those that a reload has left in place at that moment: it judges
// every session that was entered before, and none after.
func (t *sessions) swap(s *Session, load func() *rules) (old *Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.rights = load().rights(s.Identity)
	if t.next != nil {
		s.rights = s.rights.within(t.next.rights(s.Identity))
	}
	old = t.open[s.ClientID]
	if t.open == nil {
		t.open = make(map[string]*Session)
	}
	t.open[s.ClientID] = s
	return old
}

// remove forgets a session, if no other has taken it over.
func (t *sessions) remove(s *Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open[s.ClientID] == s {
		delete(t.open, s.ClientID)
	}
}

func (t *sessions) find(clientID string) *Session {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open[clientID]
}

// replace puts new rules in place and returns the sessions that were entered
// under those of before.
func (t *sessions) replace(store func()) []*Session {
	t.mu.Lock()
	defer t.mu.Unlock()
	store()
	return t.all()
}

// list is a copy, by client identifier.
func (t *sessions) list() []*Session {
	t.mu.Lock()
	all := t.all()
	t.mu.Unlock()
	slices.SortFunc(all, func(a, b *Session) int { return cmp.Compare(a.ClientID, b.ClientID) })
	return all
}

func (t *sessions) all() []*Session {
	all := make([]*Session, 0, len(t.open))
	for _, s := range t.open {
		all = append(all, s)
	}
	return all
}

// Client describes an open session, for people.
type Client struct {
	ClientID string    `json:"client_id"`
	Username string    `json:"username"` // empty: anonymous
	Remote   string    `json:"remote"`
	Version  string    `json:"version"` // of MQTT
	Path     string    `json:"path"`    // kernel: what the kernel path can take goes there; fallback
	Rights   string    `json:"rights"`  // all; or the publish filters
	Since    time.Time `json:"since"`
	Broker   string    `json:"broker,omitempty"` // that its connection leads to: host and port; empty: none
}

// Clients are the open sessions, by client identifier.
func (s *Server) Clients() []Client {
	var out []Client
	for _, x := range s.sessions.list() {
		out = append(out, x.describe())
	}
	return out
}

// Kick ends a client's session; false if there is none. Nothing that the client
// has sent becomes a message any more when it returns.
func (s *Server) Kick(clientID string) bool {
	x := s.sessions.find(clientID)
	if x == nil {
		return false
	}
	s.log.Info("client disconnected by an administrator", "client", clientID, "remote", x.Remote)
	x.end(CodeAdministrative, "disconnected by an administrator")
	return true
}

var versions = map[byte]string{3: "3.1", 4: "3.1.1", 5: "5"}

func (s *Session) describe() Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := Client{ClientID: s.ClientID, Username: s.account(), Remote: s.Remote.String(), Version: versions[s.Version], Path: "fallback",
		Rights: s.rights.describe(), Since: s.Since}
	if b, ok := s.peer.(behind); ok {
		c.Broker = b.Broker()
	}
	if s.graft != nil && !s.over {
		c.Path = "kernel"
	}
	return c
}
