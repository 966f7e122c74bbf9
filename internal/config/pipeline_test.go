package config

import (
	"fmt"
	"strings"
	"testing"
)

// TestPipeline: auto, also where nothing is said, or a number of requests.
func TestPipeline(t *testing.T) {
	const file = "functions:\n  - {name: f, url: \"http://f.local/\", pods: [\"10.0.0.1:80\"]%s}\nroutes:\n  - {topic: a, function: f}\n"
	for said, want := range map[string]int{"": PipelineAuto, ", pipeline: auto": PipelineAuto, ", pipeline: 1": 1, ", pipeline: 64": 64} {
		c, err := Parse("f.yaml", []byte(fmt.Sprintf(file, said)))
		if err != nil || c.Functions[0].Pipeline != want {
			t.Errorf("%q: %+v, %v", said, c, err)
		}
	}
	for _, said := range []string{"0", "65", "-1", "Auto", "many", "1.5"} {
		_, err := Parse("f.yaml", []byte(fmt.Sprintf(file, ", pipeline: "+said)))
		if err == nil || !strings.Contains(err.Error(), "must be auto, or a number from 1 to 64") || !strings.Contains(err.Error(), "f.yaml:2") {
			t.Errorf("%q: %v", said, err)
		}
	}
}
