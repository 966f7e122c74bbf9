package broker

import "eproxy/internal/config"

// Change is a configuration that is about to replace the one in force.
type Change struct {
	server *Server
	next   *rules
}

// Prepare checks a configuration's routes and permissions. Nothing has changed
// when it returns.
func (s *Server) Prepare(cfg *config.Config) (*Change, error) {
	r, err := newRules(cfg)
	if err != nil {
		return nil, err
	}
	return &Change{s, r}, nil
}

// Restrict leaves every client, on both paths, the rights that it has under both
// configurations. It is called before the routes are switched: a message that only
// the old configuration allows never goes where only the new one routes it to.
func (c *Change) Restrict() {
	for _, x := range c.server.sessions.replace(func() { c.server.sessions.next = c.next }) {
		x.restrict(c.next)
	}
}

// Commit puts the configuration in force: when it returns, what it forbids is
// refused on both paths, and who may no longer be connected is not.
func (c *Change) Commit() { c.server.enforce(c.next) }

// Cancel ends what Restrict began: the configuration of before stays in force.
func (c *Change) Cancel() { c.server.enforce(c.server.rules.Load()) }

// enforce puts rules in place and judges every session by them.
func (s *Server) enforce(r *rules) {
	for _, x := range s.sessions.replace(func() { s.sessions.next = nil; s.rules.Store(r) }) {
		x.judge(r)
	}
}
