package config

// keepCopies says of those routes that have also_broker what keeps subscribers' copies.
func (c *Config) keepCopies(routes []*Route) {
	kept := ""
	switch {
	case c.Persistence.Dir != "":
		kept = "persistence keeps what subscribers get"
	case c.Broker.Relay():
		kept = "a broker behind gets it"
	}
	for _, r := range routes {
		if r.AlsoBroker && r.kept != kept { // one in use is not written to
			r.kept = kept
		}
	}
}
