package netns

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"eproxy/test/lib/lab"
)

// TestPodsFromFile: a function's pods are those of a file that somebody else
// writes. While there are none its messages wait, and go on when there are some;
// under load they come and go without a message lost or delivered twice.
func TestPodsFromFile(t *testing.T) {
	for _, mode := range []string{"tc", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			path := filepath.Join(t.TempDir(), "pods.json")
			name := func(pods ...lab.Role) {
				var quoted []string
				for _, p := range pods {
					quoted = append(quoted, fmt.Sprintf(`"%s:8080"`, lab.PodAddr(p, false)))
				}
				next := fmt.Sprint(path, len(pods))
				if err := os.WriteFile(next, []byte("["+strings.Join(quoted, ",")+"]"), 0o600); err != nil {
					t.Error(err)
				}
				if err := os.Rename(next, path); err != nil {
					t.Error(err)
				}
			}
			s := start(t, l, mode, strings.Replace(routeConfig, `pods: ["%s", "%s"]`, "discover: {file: "+path+"}", 1))
			c := rawConnect(t, l, "early")
			c.write(publishPacket("sensors/early/temp", 1, 1, "waits"))
			c.ping()
			name(lab.Pod0)
			c.acknowledged(1)
			if got := r.wait(t, 1); len(got) != 1 || got[0].body != "waits" {
				t.Fatalf("the first pod got %v", got)
			}
			// each turn is in service before the next, with messages all the while
			turns := [][]lab.Role{{lab.Pod1}, {lab.Pod0, lab.Pod1}, {}, {lab.Pod0}}
			for n := range 12 {
				pods := turns[n%len(turns)]
				var change sync.WaitGroup
				change.Go(func() {
					name(pods...)
					if len(pods) == 0 {
						name(lab.Pod0) // or nothing would arrive
					}
				})
				deliverSome(t, l, r, 50)
				change.Wait()
				if len(pods) > 0 && mode == "tc" {
					until(t, "the pods to be in service", func() bool { return len(s.mapsctl("pods")) == len(pods) })
				}
			}
		})
	}
}
