package docs_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

const rulesDir = "../../deploy/prometheus/"

// ruleFile is what is read of a file of rules.
type ruleFile struct {
	Groups []struct {
		Rules []struct{ Alert, Expr string }
	}
}

// ruleTests are what is read of a file of their tests.
type ruleTests struct {
	Tests []struct {
		Checks []struct {
			Alert string `yaml:"alertname"`
			Fires []any  `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	}
}

func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(b, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestAlerts: each alert is tested where it fires and where it does not (make test-prometheus), is explained in OPERATIONS.md, and asks for
// metrics that there are.
func TestAlerts(t *testing.T) {
	var rules ruleFile
	var tests ruleTests
	readYAML(t, rulesDir+"eproxy.rules.yml", &rules)
	readYAML(t, rulesDir+"eproxy.rules.test.yml", &tests)
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range tests.Tests {
		for _, c := range test.Checks {
			if len(c.Fires) > 0 {
				fires[c.Alert] = true
			} else {
				silent[c.Alert] = true
			}
		}
	}
	operations, metrics := read(t, "../../docs/OPERATIONS.md"), read(t, "../../docs/METRICS.md")
	metric := regexp.MustCompile(`eproxy_[a-z_]+`)
	var names []string
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			names = append(names, r.Alert)
			if !fires[r.Alert] || !silent[r.Alert] {
				t.Errorf("%s is not tested where it fires (%v) and where it does not (%v)", r.Alert, fires[r.Alert], silent[r.Alert])
			}
			if !strings.Contains(operations, "\n| `"+r.Alert+"` |") {
				t.Errorf("OPERATIONS.md does not say what to do for %s", r.Alert)
			}
			for _, m := range metric.FindAllString(r.Expr, -1) {
				if !strings.Contains(metrics, "`"+m+"`") {
					t.Errorf("%s asks for %s, which METRICS.md does not know", r.Alert, m)
				}
			}
		}
	}
	for _, m := range regexp.MustCompile("\n\\| `(Eproxy[A-Za-z]+)`").FindAllStringSubmatch(operations, -1) {
		if !slices.Contains(names, m[1]) {
			t.Errorf("OPERATIONS.md has %s, which is no alert", m[1])
		}
	}
}
