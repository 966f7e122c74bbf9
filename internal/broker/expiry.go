package broker

import "time"

// limit ends the session when the client's account expires: a token is good until a
// moment, and so is what it allows.
func (s *Session) limit() {
	if s.Account == nil || s.Account.Expires.IsZero() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.expires = time.AfterFunc(time.Until(s.Account.Expires), s.expire)
	}
}

// expire ends the session, or waits on if the clock was put back meanwhile.
func (s *Session) expire() {
	defer s.server.contain(s.ClientID)
	s.mu.Lock()
	left, over := time.Until(s.Account.Expires), s.over
	if left > 0 && !over {
		s.expires.Reset(left)
	}
	s.mu.Unlock()
	if left > 0 || over {
		return
	}
	s.server.Refused("login_expired", "client disconnected: its login has expired", s.Remote, "client", s.ClientID, "user", s.account())
	s.revoke("the login has expired")
}
