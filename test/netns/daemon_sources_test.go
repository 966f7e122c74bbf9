package netns

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"eproxy/test/lib/lab"
)

// TestSourcesOfPodsAreLookedAt: check and doctor say what sources of pods name, which
// way these pods are reached, and which source cannot be read.
func TestSourcesOfPodsAreLookedAt(t *testing.T) {
	l := newCNILab(t)
	path := filepath.Join(t.TempDir(), "pods.json")
	if err := os.WriteFile(path, []byte(fmt.Sprintf("[%q, \"127.0.0.1:8080\"]", lab.PodAddr(lab.Pod0, false).String()+":8080")), 0o600); err != nil {
		t.Fatal(err)
	}
	gone := filepath.Join(t.TempDir(), "gone.json")
	config := "interfaces: [eth0]\nxdp: on\n" + strings.Replace(routeConfig, `pods: ["%s", "%s"]`, "discover: {file: "+path+"}", 1)
	config = strings.Replace(config, "routes:", "  - {name: lost, url: \"http://lost.local/\", discover: {file: "+gone+"}}\nroutes:", 1)
	file := configFile(t, l, config)
	const (
		tc   = "pod0 takes no XDP redirects until GRO is on at its far end (ethtool -K, there; or pods_gro: on)"
		left = "served by the fallback: 127.0.0.1 is this host itself"
	)
	code, out := loader(t, l, "check", "--config", file)
	for _, want := range []string{
		"function temp: file " + path + ": here it names 2 pods\n",
		"pod 10.88.1.2:8080 of temp: here taken at TC: " + tc + "\n", "pod 127.0.0.1:8080 of temp: here " + left + "\n",
		"function lost: file " + gone + ": here it cannot be read: ",
	} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("check: exit %d, lacks %q:\n%s", code, want, out)
		}
	}
	code, out = loader(t, l, "doctor", "--config", file)
	for _, want := range [][]string{
		{"source of temp", "used", "file " + path + ": it names 2 pods"},
		{"pod 10.88.1.2:8080 of temp", "degraded", "taken at TC: " + tc}, {"pod 127.0.0.1:8080 of temp", "degraded", left},
	} {
		if code != 0 || !hasLine(out, want...) {
			t.Errorf("doctor: exit %d, lacks %q:\n%s", code, want, out)
		}
	}
	if !strings.Contains(out, "file "+gone+": it cannot be read: ") {
		t.Errorf("doctor does not say what cannot be read:\n%s", out)
	}
}
