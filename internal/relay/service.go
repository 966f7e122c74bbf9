package relay

import (
	"errors"

	"eproxy/internal/request"
)

// service publishes what no client's connection is there for.
type service struct{}

func newService(*Server) *service { return &service{} }

func (s *service) publish(*request.Message) error {
	return errors.New("relay: no connection of its own")
}

func (s *service) close() {}
