package config

import "testing"

// TestCopiesThatAreKept: what subscribers get of an also_broker route is the kernel path's to hand over only where it lives in memory alone; that holds for
// routes that come later as well.
func TestCopiesThatAreKept(t *testing.T) {
	fn := &Function{Name: "f"}
	for name, c := range map[string]struct {
		cfg  Config
		also bool
		ok   bool
	}{
		"in memory":                {Config{}, true, true},
		"persistence":              {Config{Persistence: Persistence{Dir: "/d"}}, true, false},
		"a broker behind":          {Config{Broker: Broker{Mode: "relay"}}, true, false},
		"persistence, not copied":  {Config{Persistence: Persistence{Dir: "/d"}}, false, true},
		"a broker, and not copied": {Config{Broker: Broker{Mode: "relay"}}, false, true},
	} {
		r := &Route{Topic: "a", AlsoBroker: c.also}
		c.cfg.With(nil, []*Route{r})
		if why, ok := r.Graftable(fn); ok != c.ok {
			t.Errorf("%s: graftable %v, %s", name, ok, why)
		}
	}
}
