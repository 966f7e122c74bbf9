package broker

import "eproxy/internal/config"

// Relistener is a Frontend whose listeners can change while it serves.
type Relistener interface {
	// Relisten prepares a change to these listeners. Where one cannot be opened it returns an error, and nothing has changed.
	Relisten(listeners []config.Listener) (Relistening, error)
}

// Relistening is a change of listeners that is prepared. One of its methods is called, once.
type Relistening interface {
	Commit()
	Cancel()
}

// fixedListeners is a change of nothing.
type fixedListeners struct{}

func (fixedListeners) Commit() {}
func (fixedListeners) Cancel() {}

// relisten prepares the listeners of a configuration.
func (s *Server) relisten(cfg *config.Config) (Relistening, error) {
	if front, ok := s.front.(Relistener); ok {
		return front.Relisten(cfg.Listeners)
	}
	return fixedListeners{}, nil
}
