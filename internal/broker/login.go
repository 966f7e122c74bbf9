package broker

import (
	"eproxy/internal/auth"
	"eproxy/internal/passhash"
)

// login checks the user name and password of a CONNECT, or the token that stands
// for one, and counts and logs what is refused. It returns the account, nil of an
// anonymous client, and an MQTT 5 reason code.
func (s *Server) login(r *rules, c *Connect) (*auth.Account, byte) {
	if c.Certified {
		return s.certified(r, c)
	}
	a := s.logins.Check(r.accounts, auth.Login{From: c.Remote.Addr().Unmap(), ClientID: c.ClientID, Username: c.Username, Password: c.Password})
	args := []any{"client", c.ClientID, "user", c.Username}
	if a.Why != "" {
		args = append(args, "why", a.Why)
	}
	switch a.Result {
	case auth.Accepted:
		return a.Account, CodeSuccess
	case auth.Busy:
		s.Refused("login_busy", "client refused: too many passwords wait to be checked", c.Remote, args...)
		return nil, CodeQuotaExceeded
	case auth.Unavailable:
		s.Refused("login_unavailable", "client refused: who may connect cannot be asked", c.Remote, args...)
		return nil, CodeUnavailable
	case auth.Unusable:
		s.Refused("password_unusable", "client refused: its password has a NUL, or is longer than bcrypt can see", c.Remote,
			append(args, "bcrypt_bytes", passhash.MaxBcrypt)...)
	default:
		s.Refused("not_authenticated", "client refused: wrong user name or password", c.Remote, args...)
	}
	return nil, CodeBadCredentials
}

// certified lets a client in that its certificate names: as the user of that name, or where
// everybody may connect and there is none.
func (s *Server) certified(r *rules, c *Connect) (*auth.Account, byte) {
	if a, ok := r.accounts.Certified(c.Username); ok || r.auth.AllowAnonymous {
		return a, CodeSuccess
	}
	s.Refused("not_authenticated", "client refused: its certificate names no user", c.Remote, "client", c.ClientID, "user", c.Username)
	return nil, CodeBadCredentials
}
