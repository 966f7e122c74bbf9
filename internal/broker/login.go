package broker

import "eproxy/internal/auth"

// login checks the user name and password of a CONNECT, and counts and logs what
// is refused. It returns an MQTT 5 reason code.
func (s *Server) login(r *rules, c *Connect) byte {
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
