package broker

import "time"

// limit ends the session when the client's account or certificate expires: it is good
// until a moment, and so is what it allows.
func (s *Session) limit() {
	at := s.expires()
	if at.IsZero() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.expiring = time.AfterFunc(time.Until(at), s.expire)
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
	s.server.Refused("login_expired", "client disconnected: its token or certificate has expired", s.Remote, "client", s.ClientID, "user", s.account())
	s.Revoke("the token or certificate has expired")
}
