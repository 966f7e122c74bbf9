package transport

import (
	"crypto/tls"

	"eproxy/internal/config"
)

// Server is TLS for a server of another protocol, by the files and the rules of listeners: what has changed in the files counts
// from the next connection on. protocols are those that it offers (ALPN, RFC 7301).
func Server(cfg *config.TLS, protocols []string, warn Warn) (*tls.Config, error) {
	c, err := newCredentials(cfg, warn)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		out := c.current().server.Clone()
		out.NextProtos = protocols
		return out, nil
	}}, nil
}
