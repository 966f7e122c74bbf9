package broker

import (
	"context"
	"log/slog"

	"eproxy/internal/auth"
)

// login checks the user name and password of a CONNECT, and counts and logs what
// is refused. It returns an MQTT 5 reason code.
func (s *Server) login(r *rules, c *Connect) byte {
	switch s.logins.Check(r.auth, c.Remote.Addr(), c.Username, c.Password) {
	case auth.Accepted:
		return CodeSuccess
	case auth.Busy:
		s.refused("login_busy")
		s.logLogin(c, "client refused: too many passwords wait to be checked")
		return CodeQuotaExceeded
	case auth.Unusable:
		s.refused("password_unusable")
		s.logLogin(c, "client refused: its password is longer than 72 bytes or has a NUL; bcrypt would see a part of it only")
	default:
		s.refused("not_authenticated")
	}
	return CodeBadCredentials
}

// logLogin logs the first refusal of its kind where everybody sees it, the others
// for those who look for them: anybody can send any number.
func (s *Server) logLogin(c *Connect, text string) {
	level := slog.LevelDebug
	if _, logged := s.logged.LoadOrStore(text, struct{}{}); !logged {
		level = slog.LevelWarn
	}
	s.log.Log(context.Background(), level, text, "client", c.ClientID, "user", c.Username, "remote", c.Remote)
}
