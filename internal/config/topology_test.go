package config

import (
	"fmt"
	"strings"
	"testing"
)

// TestTopology: prefer-local, also where nothing is said, or any.
func TestTopology(t *testing.T) {
	const file = "functions:\n  - {name: f, url: \"http://f.local/\", pods: [\"10.0.0.1:80\"]%s}\nroutes:\n  - {topic: a, function: f}\n"
	for said, want := range map[string]string{"": TopologyLocal, ", topology: prefer-local": TopologyLocal, ", topology: any": TopologyAny} {
		c, err := Parse("f.yaml", []byte(fmt.Sprintf(file, said)))
		if err != nil || c.Functions[0].Topology != want {
			t.Errorf("%q: %+v, %v", said, c, err)
		}
	}
	for _, said := range []string{"Any", "local", "1", "\"\\n\""} {
		_, err := Parse("f.yaml", []byte(fmt.Sprintf(file, ", topology: "+said)))
		if err == nil || !strings.Contains(err.Error(), "must be prefer-local or any") || !strings.Contains(err.Error(), "f.yaml:2") {
			t.Errorf("%q: %v", said, err)
		}
	}
}
