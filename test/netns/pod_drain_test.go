package netns

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"eproxy/internal/pinned"
	"eproxy/test/lib/lab"
)

// podFile is a file of pods that the loader reads.
type podFile struct{ path string }

// name has the file name these pods, on port 8080.
func (f podFile) name(t *testing.T, pods ...lab.Role) {
	t.Helper()
	text := "[]"
	if len(pods) > 0 {
		text = ""
		for _, p := range pods {
			text += fmt.Sprintf("- %s:8080\n", lab.PodAddr(p, false))
		}
	}
	if err := os.WriteFile(f.path+".next", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(f.path+".next", f.path); err != nil {
		t.Fatal(err)
	}
}

const fileConfig = `functions:
  - name: temp
    url: http://temp.local/ingest
    discover: {file: "%s"}
    timeout: %s
routes:
  - {topic: sensors/+/temp, function: temp}
`

// podRow is what mapsctl says of a pod; nil if it does not know it.
func (s *system) podRow(pod lab.Role) map[string]any {
	s.t.Helper()
	for _, row := range s.mapsctl("pods") {
		if row["pod"] == fmt.Sprintf("%s:8080", lab.PodAddr(pod, false)) {
			return row
		}
	}
	return nil
}

// slotsOf are the local addresses of the connections to a pod.
func (s *system) slotsOf(pod lab.Role) (local []string) {
	s.t.Helper()
	for _, row := range s.mapsctl("slots") {
		if row["pod"] == fmt.Sprintf("%s:8080", lab.PodAddr(pod, false)) {
			local = append(local, row["local"].(string))
		}
	}
	return local
}

// epoch changes whenever connections forget what they know of topics.
func (s *system) epoch() uint32 {
	s.t.Helper()
	m, err := pinned.Open(s.lab.BPFFS())
	if err != nil {
		s.t.Fatal(err)
	}
	defer m.Close()
	g, err := m.Settings()
	if err != nil {
		s.t.Fatal(err)
	}
	return g.Epoch
}

// TestPodsComeAndGoAlone: another pod that comes, and goes, leaves connections to the
// others, what clients' connections remember, and counters as they are.
func TestPodsComeAndGoAlone(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	file := podFile{filepath.Join(t.TempDir(), "pods")}
	file.name(t, lab.Pod0)
	s := start(t, l, "tc", fmt.Sprintf(fileConfig, file.path, "10s"))
	deliverSome(t, l, r, 20)
	slots, epoch, answered := s.slotsOf(lab.Pod0), s.epoch(), s.podRow(lab.Pod0)["answered"].(float64)
	if len(slots) == 0 || answered == 0 {
		t.Fatalf("the first pod has slots %v and answered %v", slots, answered)
	}
	for range 3 {
		file.name(t, lab.Pod0, lab.Pod1)
		until(t, "the other pod to be in service", func() bool { row := s.podRow(lab.Pod1); return row != nil && row["idle"].(float64) > 0 })
		deliverSome(t, l, r, 20)
		file.name(t, lab.Pod0)
		until(t, "the other pod to be gone", func() bool { return s.podRow(lab.Pod1) == nil })
		deliverSome(t, l, r, 20)
	}
	if now := s.epoch(); now != epoch {
		t.Errorf("epoch %d became %d", epoch, now)
	}
	if now := s.slotsOf(lab.Pod0); !slices.Contains(now, slots[0]) {
		t.Errorf("slots %v became %v", slots, now)
	}
	if now := s.podRow(lab.Pod0)["answered"].(float64); now <= answered {
		t.Errorf("the first pod had answered %v requests, now %v", answered, now)
	}
}

// TestDrainedPodFinishes: a pod that goes gets nothing more, and what it has in flight
// ends there: messages of QoS 0 as well, and nobody gets one twice. It is gone then, also
// if it never answers.
func TestDrainedPodFinishes(t *testing.T) {
	for _, answers := range []bool{true, false} {
		t.Run(fmt.Sprint("answers=", answers), func(t *testing.T) {
			l := newLab(t)
			leaving, staying := newRecorder(), newRecorder()
			end := make(chan struct{})
			wait := leaving.handler(func(n int64, w http.ResponseWriter, q *http.Request) {
				if n > 1 {
					<-end
				}
				ok(n, w, q)
			})
			release := func() {
				select {
				case <-end:
				default:
					close(end)
				}
			}
			serveOn(t, l, lab.Pod0, lab.PodAddr(lab.Pod0, false).String()+":8080", wait, nil)
			serveOn(t, l, lab.Pod1, lab.PodAddr(lab.Pod1, false).String()+":8080", staying.handler(ok), nil)
			t.Cleanup(release)
			file := podFile{filepath.Join(t.TempDir(), "pods")}
			file.name(t, lab.Pod0)
			timeout := map[bool]string{true: "30s", false: "1s"}[answers]
			s := start(t, l, "tc", fmt.Sprintf(fileConfig, file.path, timeout))
			c := rawConnect(t, l, "early")
			c.write(publishPacket("sensors/early/temp", 1, 1, "first"))
			c.acknowledged(1)
			before := s.counts()
			c.write(publishPacket("sensors/early/temp", 0, 0, "zero"))
			leaving.wait(t, 2)
			if taken, _ := share(before, s.counts()); taken != 1 {
				t.Fatal("the message of QoS 0 is not in the kernel path")
			}
			c.write(publishPacket("sensors/early/temp", 1, 2, "one"))
			leaving.wait(t, 3)
			file.name(t, lab.Pod1)
			until(t, "the pod to drain", func() bool { row := s.podRow(lab.Pod0); return row == nil || row["state"] == "draining" })
			until(t, "the other pod to be in service", func() bool { row := s.podRow(lab.Pod1); return row != nil && row["idle"].(float64) > 0 })
			c.write(publishPacket("sensors/early/temp", 1, 3, "next"))
			staying.wait(t, 1)
			c.acknowledged(3)
			if answers {
				release()
			}
			c.acknowledged(2)
			until(t, "the pod to be gone", func() bool { return s.podRow(lab.Pod0) == nil })
			if n := s.counts()["control/taken_over"]; answers && n > 0 {
				t.Errorf("%d messages were taken over from the pod", n)
			}
			got, _ := staying.all()
			if want := map[bool]int{true: 1, false: 2}[answers]; len(got) != want { // a message that is not answered in time is tried again
				t.Errorf("the other pod got %d messages, want %d", len(got), want)
			}
		})
	}
}
