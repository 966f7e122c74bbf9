package netns

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"eproxy/test/lib/await"
	"eproxy/test/lib/lab"
)

// TestShownIsTrue: what mapsctl and `loader status` show of requests, of clients that are gone,
// and of pods and interfaces that are dead.
func TestShownIsTrue(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	var servers []*http.Server
	r.serveGo(t, l, false, ok, func(s *http.Server) { servers = append(servers, s) })
	s := start(t, l, "xdp", podConfig(routeConfig, false))
	const n = 30
	for _, id := range []string{"polite", "rude"} {
		c := rawConnect(t, l, id)
		for i := range uint16(n) {
			c.publish("sensors/"+id+"/temp", i+1, "x")
		}
		if id == "polite" {
			c.write([]byte{0xe0, 0})
		}
		_ = c.Close()
	}
	requests := 0
	for _, row := range s.mapsctl("slots") {
		requests += int(row["requests"].(float64))
	}
	counts := s.counts()
	if taken := counts["xdp_device/taken"] + counts["tc_device_in/taken"]; requests != taken || taken == 0 {
		t.Errorf("%d requests are shown, %d messages were taken", requests, taken)
	}
	waitFor(t, func() string {
		for _, row := range s.mapsctl("flows") {
			if row["state"] != "closed" || row["lost_track"] != false {
				return row["client"].(string) + " is shown as " + row["state"].(string)
			}
		}
		return ""
	})

	status := func() string {
		t.Helper()
		code, out := loader(t, l, "status", "--bpffs", l.BPFFS(), "--config", s.file)
		if code != 0 {
			t.Fatalf("status: exit %d: %s", code, out)
		}
		return out
	}
	if out := status(); strings.Contains(out, "unconnected") || strings.Contains(out, "gone") {
		t.Errorf("all is well, but:\n%s", out)
	}
	if err := l.Cut(lab.Dev); err != nil {
		t.Fatal(err)
	}
	for _, srv := range servers {
		_ = srv.Close()
	}
	waitFor(t, func() string {
		if out := status(); strings.Count(out, "unconnected") != 2 {
			return out
		}
		return ""
	})
	waitFor(t, func() string {
		if out := status(); !regexp.MustCompile(`interface +eth0 +gone`).MatchString(out) {
			return out
		}
		return ""
	})
}

// waitFor waits until what() has nothing to complain of.
func waitFor(t *testing.T, what func() string) {
	t.Helper()
	await.None(t, 30*time.Second, what)
}

// TestStopEndsConnectionsInOrder: when eproxy stops, and when a reload takes a pod out of
// service, idle connections to pods end with FIN: no server sees one reset.
func TestStopEndsConnectionsInOrder(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	dir := t.TempDir()
	abs, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.StartEproxy(context.Background(), dir, lab.Eproxy{Bin: abs, Mode: "xdp", Config: podConfig(routeConfig, false)})
	if err != nil {
		t.Fatal(err)
	}
	deliverSome(t, l, r, 50)
	s := &system{Process: p, t: t, lab: l, mode: "xdp", file: filepath.Join(dir, "eproxy.yaml")}
	pods := []lab.Role{lab.Pod0, lab.Pod1}
	for _, pod := range pods {
		if out, err := l.Run(context.Background(), pod, "nft", "add table inet f; add chain inet f i { type filter hook input priority 0; }; add rule inet f i tcp flags rst counter; add rule inet f i tcp flags fin counter"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	ended := func(pod lab.Role) (rst, fin int) {
		t.Helper()
		out, err := l.Run(context.Background(), pod, "nft", "list table inet f")
		m := regexp.MustCompile(`packets (\d+)`).FindAllSubmatch(out, -1)
		if err != nil || len(m) != 2 {
			t.Fatalf("%v: %s", err, out)
		}
		rst, _ = strconv.Atoi(string(m[0][1]))
		fin, _ = strconv.Atoi(string(m[1][1]))
		return rst, fin
	}
	s.reload(`, "`+lab.PodAddr(lab.Pod1, false).String()+`:8080"`, "", "msg=reloaded")
	waitFor(t, func() string {
		if _, fin := ended(lab.Pod1); fin == 0 {
			return "no connection to the pod that is no longer configured has ended"
		}
		return ""
	})
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods {
		if rst, fin := ended(pod); rst > 0 || fin == 0 {
			t.Errorf("%s: %d connections were reset, %d ended", pod, rst, fin)
		}
	}
	if _, err := os.Stat(l.BPFFS()); err == nil {
		t.Error("pins are left")
	}
}
