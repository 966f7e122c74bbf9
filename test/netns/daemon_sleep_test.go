package netns

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestSleepingFunctions: functions that are frozen answer the message that wakes them, on
// both paths of the loader, without losing one or delivering one twice.
func TestSleepingFunctions(t *testing.T) {
	l := newLab(t)
	config := strings.Replace(fmt.Sprintf(instancesConfig, pythonFunction), "], instances: 2}", "], idle: 1s}", 1)
	s := start(t, l, "tc", strings.Replace(config, "memory: 64Mi}", "memory: 64Mi, idle: 1s}", 1))
	c := rawConnect(t, l, "d")
	id := uint16(0)
	starts := make(map[string]float64)
	for round := range 3 {
		for _, function := range []string{"node", "python"} {
			id++
			began := time.Now()
			c.publish("sensors/d/"+function, id, "x")
			t.Logf("round %d, %s: PUBACK after %s", round, function, time.Since(began).Round(time.Microsecond))
		}
		until(t, "both to be frozen", func() bool {
			n := 0
			for _, row := range s.mapsctl("instances") {
				if row["state"] == "frozen" {
					n++
					starts[row["function"].(string)] = row["starts"].(float64)
				}
			}
			return n == 2
		})
	}
	if starts["node"] != 1 || starts["python"] != 1 {
		t.Errorf("processes were started again: %v", starts)
	}
}
