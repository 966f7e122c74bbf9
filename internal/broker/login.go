package broker

import "eproxy/internal/auth"

// login checks the user name and password of a CONNECT, and counts and logs what
// is refused. It returns an MQTT 5 reason code.
func (s *Server) login(r *rules, c *Connect) byte {
	if c.Certified {
		return s.certified(r, c)
	}
	switch s.logins.Check(r.auth, c.Remote.Addr(), c.Username, c.Password) {
	case auth.Accepted:
		return CodeSuccess
	case auth.Busy:
		s.Refused("login_busy", "client refused: too many passwords wait to be checked", c.Remote, "client", c.ClientID, "user", c.Username)
		return CodeQuotaExceeded
	case auth.Unusable:
		s.Refused("password_unusable", "client refused: its password is longer than 72 bytes or has a NUL; bcrypt would see a part of it only",
			c.Remote, "client", c.ClientID, "user", c.Username)
	default:
		s.Refused("not_authenticated", "client refused: wrong user name or password", c.Remote, "client", c.ClientID, "user", c.Username)
	}
	return CodeBadCredentials
}

// certified lets a client in that its certificate names: as the user of that name, or where
// everybody may connect and there is none.
func (s *Server) certified(r *rules, c *Connect) byte {
	if r.auth.AllowAnonymous || c.Username != "" && r.auth.User(c.Username) != nil {
		return CodeSuccess
	}
	s.Refused("not_authenticated", "client refused: its certificate names no user", c.Remote, "client", c.ClientID, "user", c.Username)
	return CodeBadCredentials
}
