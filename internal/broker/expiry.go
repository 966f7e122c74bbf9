package broker

import (
	"time"

	"eproxy/internal/auth"
)

// limit ends the session when the client's account or certificate expires: it is good
// until a moment, and so is what it allows.
func (s *Session) limit() {
	at := s.expires()
	if at.IsZero() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.expiring = time.AfterFunc(time.Until(at), s.expire)
	if s.Account != nil && !s.Account.Renewal().IsZero() {
		s.renewing = time.AfterFunc(time.Until(s.Account.Renewal()), s.renew)
	}
}

// expire ends the session, or waits on if the clock was put back meanwhile.
func (s *Session) expire() {
	defer s.server.contain(s.ClientID)
	s.mu.Lock()
	left, over := time.Until(s.expires()), s.over
	if left > 0 && !over {
		s.expiring.Reset(left)
	}
	s.mu.Unlock()
	if left > 0 || over {
		return
	}
	s.server.Refused("login_expired", "client disconnected: its login has expired", s.Remote, "client", s.ClientID, "user", s.account())
	s.Revoke("the login has expired")
}

// renew asks again whether the client may be connected, and what it may do.
func (s *Session) renew() {
	defer s.server.contain(s.ClientID)
	if s.Over() {
		return
	}
	result, why := s.server.logins.Renew(s.server.rules.Load().accounts, s.Account)
	switch result {
	case auth.Accepted:
		s.server.rejudge(s)
	case auth.Refused:
		s.server.Refused("login_withdrawn", "client disconnected: it may not be connected any more", s.Remote, "client", s.ClientID, "user", s.account(), "why", why)
		s.Revoke("the login was withdrawn")
		return
	default:
		s.server.often.Warn("a client's login cannot be renewed", s.Remote.Addr().String(), "client", s.ClientID, "why", why)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.renewing.Reset(time.Until(s.Account.Renewal()))
	}
}
