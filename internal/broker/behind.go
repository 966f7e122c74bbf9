package broker

// Behind is a frontend with brokers behind it.
type Behind interface {
	// EachBroker tells of those, in the order of the configuration: host and port, whether it accepts connections, as far as is
	// known, and how many clients it has let in, now.
	EachBroker(each func(address string, up bool, clients int))
}

// EachBroker tells of the brokers behind the frontend, of none if it is one itself; metrics.BrokerSource.
func (s *Server) EachBroker(each func(address string, up bool, clients int)) {
	if b, ok := s.front.(Behind); ok {
		b.EachBroker(each)
	}
}

// behind is a client's connection that leads to a broker.
type behind interface {
	// Broker is the broker's address: host and port.
	Broker() string
}
