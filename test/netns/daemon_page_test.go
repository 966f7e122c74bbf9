//go:build page

package netns

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"eproxy/test/lib/swap"
)

// The names that come from outside are markup, which a page that made some of them would run. As a function's name it has neither blanks nor slashes.
const (
	hostileTopic    = `a<img src=x onerror="document.title='run'"><script>document.title='run'</script>`
	hostileFunction = `<script>document.title='run'`
)

const pageToken = "0123456789abcdef0123456789abcdef"

// pageConfig has a second function with a route of its own, and a route that no message comes by.
func pageConfig(t *testing.T, function, topic string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(pageToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	functions, routes, _ := strings.Cut(routeConfig, "routes:\n")
	functions += "  - {name: \"" + function + "\", url: \"http://two.local/\", pods: [\"%[1]s\"]}\n"
	routes += "  - {topic: '" + strings.ReplaceAll(topic, "'", "''") + "', function: \"" + function + "\"}\n  - {topic: quiet/#, function: temp}\n"
	return podConfig(functions+"routes:\n"+routes, false) + "auth:\n  allow_anonymous: false\n  users:\n" + fmt.Sprintf(devAccount, hashOf(t, "dev")) +
		fmt.Sprintf("metrics: {listen: \"127.0.0.1:9464\", page: true, token_file: %q}\n", file)
}

// pageState is what can be seen on the page: the numbers as they are written there.
type pageState struct {
	Title, Path, Cookie, State, Total string
	Boxes                             map[string][]string // by what they stand for
	Reasons, Refused                  map[string][]string // cells
	Images, Scripts, Points           int
	Width, Screen                     int
}

const readPage = `(() => {
	const cells = id => Object.fromEntries([...document.querySelectorAll("#" + id + " tr[data-key]")].map(r => [r.dataset.key, [...r.cells].map(c => c.textContent)]));
	return {title: document.title, path: location.pathname + location.search, cookie: document.cookie, state: document.getElementById("state")?.textContent ?? "",
		total: document.getElementById("total")?.textContent ?? "",
		boxes: Object.fromEntries([...document.querySelectorAll(".box")].map(b => [b.dataset.key, [...b.children].map(c => c.textContent)])),
		reasons: cells("reasons"), refused: cells("refused"), images: document.images.length, scripts: document.scripts.length,
		points: document.querySelector("#line .rate")?.points.length ?? 0,
		width: document.documentElement.scrollWidth, screen: window.innerWidth};
})()`

// grouped is a number as the page writes it.
func grouped(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// TestPage: in a real browser the numbers are those of the metrics, names that are markup are text, nothing is complained of in the console, the token
// is in no address and seen by no script, and a phone's screen is wide enough.
func TestPage(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	start(t, l, "tc", pageConfig(t, hostileFunction, hostileTopic))
	b := browse(t, l)
	b.call("Page.navigate", map[string]any{"url": "http://127.0.0.1:9464/?token=" + pageToken})
	if _, code := logIn(t, l, account{version: 4, id: "c", user: "dev", password: "wrong"}); code == 0 {
		t.Error("a wrong password lets in")
	}
	c := mustLogIn(t, l, account{version: 4, id: "<script>document.title='run'</script>", user: "dev"})
	send := func(topic string, from, n int) {
		for id := from; id < from+n; id++ {
			if _, end := c.answer(topic, uint16(id), "x"); end {
				t.Fatal("a message is not acknowledged")
			}
		}
	}
	send("sensors/c/temp", 1, 1200)
	send(hostileTopic, 2000, 30)
	var p pageState
	until(t, "the page shows all messages", func() bool {
		p = pageState{}
		b.evaluate(readPage, &p)
		return p.Total == grouped(1230) && p.State == "live"
	})
	p.same(t, scrapeSeries(t, l))
	if p.Title != "eproxy" || p.Images != 0 || p.Scripts != 1 {
		t.Errorf("what is text has become markup: title %q, %d images, %d scripts", p.Title, p.Images, p.Scripts)
	}
	if p.Path != "/" || p.Cookie != "" {
		t.Errorf("address %q, and scripts see the cookie %q", p.Path, p.Cookie)
	}
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": true})
	if b.evaluate(readPage, &p); p.Width > p.Screen || p.Screen != 390 {
		t.Errorf("%d wide on a screen of %d", p.Width, p.Screen)
	}
	for _, complaint := range b.complaints() {
		t.Errorf("the browser complains: %s", complaint)
	}
}

// same compares what the page shows with the metrics.
func (p *pageState) same(t *testing.T, now series) {
	t.Helper()
	has := func(key, text string) {
		t.Helper()
		for _, line := range p.Boxes[key] {
			if strings.HasSuffix(line, text) {
				return
			}
		}
		t.Errorf("%s is %q, want %q", key, p.Boxes[key], text)
	}
	for _, f := range []string{"temp", hostileFunction} {
		has("function "+f, grouped(now.sum("eproxy_messages_total", fmt.Sprintf("function=%q", f)))+" messages")
	}
	for _, route := range []string{"sensors/+/temp", hostileTopic, "quiet/#"} {
		has("route "+route, grouped(now.sum("eproxy_messages_total", fmt.Sprintf("route=%q", route)))+" messages")
		has("route "+route, route)
	}
	pods := 0
	for key, lines := range p.Boxes {
		pod, is := strings.CutPrefix(key, "pod ")
		if !is {
			continue
		}
		pods++
		for _, f := range []string{"temp", hostileFunction} {
			if lines[1] == "of "+f {
				if want := ", " + grouped(now.sum("eproxy_function_requests_total", fmt.Sprintf("function=%q", f), fmt.Sprintf("pod=%q", pod))) + " requests"; !strings.HasSuffix(lines[2], want) {
					t.Errorf("%s: %q, want %q", key, lines, want)
				}
			}
		}
	}
	if pods != 2 { // of three: one is of both functions
		t.Errorf("%d pods in %v", pods, p.Boxes)
	}
	if got := p.Refused["not_authenticated"]; len(got) != 4 || got[1] != "wrong user name, password or token; or auth.http says no" || got[2] != grouped(now.sum("eproxy_refused_total", `reason="not_authenticated"`)) || got[2] != "1" {
		t.Errorf("refused: %q", p.Refused)
	}
	var taken []string
	for key := range p.Reasons {
		if strings.HasSuffix(key, " taken") {
			taken = p.Reasons[key]
		}
	}
	if len(taken) != 5 || taken[2] != "PUBLISH taken: became an HTTP request in the kernel" || taken[3] != grouped(now.sum("eproxy_reasons_total", fmt.Sprintf("hook=%q", taken[1]), `reason="taken"`)) {
		t.Errorf("taken: %q of %v", taken, p.Reasons)
	}
	if p.Points < 1 {
		t.Error("nothing in the time line")
	}
}

// TestPageShowsStates: what a function that the loader runs is in, and why, is on the page as mapsctl has it: paged out, stopped because
// others need its memory, and with the next message expected.
func TestPageShowsStates(t *testing.T) {
	swap.On(t)
	l := newLab(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(pageToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const room = 150 // MiB: one of the two has room beside paged
	config := strings.Replace(fmt.Sprintf(crowded, crowdedFunction, room, crowdedEach), metricsConfig, "", 1)
	config = strings.Replace(config, "functions:\n", fmt.Sprintf("functions:\n  - {name: paged, url: \"http://paged.local/\", "+
		"run: {command: [%q], env: {EPROXY_TEST_FUNCTION: \"1\"}, instances: 1, memory: 30Mi, idle: 1s, page_out: 1s}}\n", copyFunction(t)), 1)
	config += fmt.Sprintf("  - {topic: m/+/paged, function: paged}\nmetrics: {listen: \"127.0.0.1:9464\", page: true, token_file: %q}\n", file)
	start(t, l, "tc", config)
	b := browse(t, l)
	b.call("Page.navigate", map[string]any{"url": "http://127.0.0.1:9464/?token=" + pageToken})
	c := rawConnect(t, l, "d")
	c.publish("m/0/paged", 1, "x")
	c.publish("m/0/a", 2, "x")
	c.publish("m/0/b", 3, "x") // takes a's memory
	var p pageState
	defer func() { t.Logf("functions at last: %q", p.Boxes) }()
	shows := func(function string, lines ...string) bool {
		p = pageState{}
		b.evaluate(readPage, &p)
		for _, l := range lines {
			if !slices.ContainsFunc(p.Boxes["function "+function], func(x string) bool { return strings.Contains(x, l) }) {
				return false
			}
		}
		t.Logf("%s: %q", function, p.Boxes["function "+function])
		return true
	}
	until(t, "what is paged out", func() bool { return shows("paged", "paged-out, 1 of 1 instances", " MiB in memory, and has ") })
	until(t, "what was stopped for others", func() bool {
		return shows("a", "stopped, 0 of 1 instances", "it was stopped because others need its memory (runtime.memory)", "by ")
	})
	rhythm := time.NewTicker(1100 * time.Millisecond)
	defer rhythm.Stop()
	for id := uint16(4); !shows("b", "of 1 instances", "next message expected "); id++ {
		if id == 60 {
			t.Fatal("nothing is expected after as many messages")
		}
		c.publish(fmt.Sprintf("m/%d/b", id), id, "x")
		<-rhythm.C
	}
	for _, complaint := range b.complaints() {
		t.Errorf("the browser complains: %s", complaint)
	}
}

// TestPagePicture takes the picture that is in the docs, of a wide screen, after some readings in which messages came; EPROXY_SCREENSHOT is where it is put.
func TestPagePicture(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	start(t, l, "tc", pageConfig(t, "audit", "audit/#"))
	b := browse(t, l)
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": 1000, "height": 800, "deviceScaleFactor": 1, "mobile": false})
	b.call("Page.navigate", map[string]any{"url": "http://127.0.0.1:9464/?token=" + pageToken})
	if _, code := logIn(t, l, account{version: 4, id: "c", user: "dev", password: "wrong"}); code == 0 {
		t.Error("a wrong password lets in")
	}
	c := mustLogIn(t, l, account{version: 4, id: "c", user: "dev"})
	late := time.Now().Add(2 * time.Minute)
	if err := c.SetDeadline(late); err != nil {
		t.Fatal(err)
	}
	var p pageState
	for id := uint16(1); p.Points < 15; id = id%60000 + 1 {
		topic := "sensors/c/temp"
		if id%5 == 0 {
			topic = "audit/c"
		}
		if _, end := c.answer(topic, id, "x"); end {
			t.Fatal("a message is not acknowledged")
		}
		if id%20 != 0 {
			continue
		}
		if time.Now().After(late) {
			t.Fatal("too few readings")
		}
		time.Sleep(20 * time.Millisecond) // a load that leaves the machine to others
		b.evaluate(readPage, &p)
	}
	var shot struct{ Data string }
	b.into(&shot, "Page.captureScreenshot", map[string]any{"format": "png"})
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		t.Fatal(err)
	}
	if len(png) > 150_000 {
		t.Errorf("a picture of %d bytes", len(png))
	}
	if err := os.WriteFile(os.Getenv("EPROXY_SCREENSHOT"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}
