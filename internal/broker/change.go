package broker

import (
	"context"

	"eproxy/internal/config"
	"eproxy/internal/filewatch"
)

// Change is a configuration that is about to replace the one in force.
type Change struct {
	server *Server
	next   *rules
	listen Relistening
}

// Prepare checks a configuration's routes and permissions. Nothing has changed
// when it returns.
func (s *Server) Prepare(cfg *config.Config) (*Change, error) {
	r, err := newRules(cfg)
	if err != nil {
		return nil, err
	}
	listen, err := s.relisten(cfg)
	if err != nil {
		return nil, err
	}
	return &Change{s, r, listen}, nil
}

// Restrict leaves every client, on both paths, the rights that it has under both
// configurations. It is called before the routes are switched: a message that only
// the old configuration allows never goes where only the new one routes it to.
func (c *Change) Restrict() {
	s := c.server
	s.changing.Lock()
	defer s.changing.Unlock()
	for _, x := range s.sessions.replace(func() { s.sessions.next = c.next }) {
		x.restrict(c.next)
	}
}

// Commit puts the configuration in force: when it returns, what it forbids is
// refused on both paths, and who may no longer be connected is not.
func (c *Change) Commit() {
	s := c.server
	s.changing.Lock()
	defer s.changing.Unlock()
	if n := s.sessions.next; n != nil {
		c.next = n // its accounts may have been read anew since
	}
	s.enforce(c.next, nil)
	c.listen.Commit()
	s.follow()
}

// Cancel ends what Restrict began: the configuration of before stays in force.
func (c *Change) Cancel() {
	s := c.server
	s.changing.Lock()
	defer s.changing.Unlock()
	c.listen.Cancel()
	s.enforce(s.rules.Load(), nil)
}

// enforce puts rules in place and judges every session by them, and by those that
// are about to replace them, nil: none are. s.changing is held.
func (s *Server) enforce(r, next *rules) {
	for _, x := range s.sessions.replace(func() { s.sessions.next = next; s.rules.Store(r) }) {
		x.judge(r, next)
	}
}

// rejudge judges one session by the rules that are in force.
func (s *Server) rejudge(x *Session) {
	s.changing.Lock()
	defer s.changing.Unlock()
	x.judge(s.rules.Load(), s.sessions.next)
}

// follow watches the files of the accounts that are in force. s.changing is held.
func (s *Server) follow() {
	if s.unfollow != nil {
		s.unfollow()
	}
	ctx, cancel := context.WithCancel(s.ctx)
	s.unfollow = cancel
	failed := func(err error) {
		if err != nil {
			s.often.Warn("files with accounts cannot be watched", err.Error(), "error", err)
		}
	}
	go filewatch.Follow(ctx, s.rules.Load().auth.Files(), s.reread, failed)
}

// reread puts the accounts in force as their files have them now, if these have
// changed. Files that cannot be used change nothing.
func (s *Server) reread() {
	s.changing.Lock()
	defer s.changing.Unlock()
	r, next := s.rules.Load(), s.sessions.next
	if s.ctx.Err() != nil || !r.accounts.Stale() {
		return
	}
	now, err := r.reread()
	if err == nil && next != nil {
		next, err = next.reread()
	}
	if err != nil {
		s.often.Warn("accounts have changed and cannot be used: those of before stay", err.Error(), "error", err)
		return
	}
	s.enforce(now, next)
	s.log.Info("accounts read again", "accounts", now.accounts.Count())
}
