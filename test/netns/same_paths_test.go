package netns

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"eproxy/test/lib/certs"
	"eproxy/test/lib/lab"
)

// samePaths are the ways that a message can take to its function. The first is what the others are compared with.
var samePaths = []struct {
	name, mode string
	relay      bool
}{
	{"fallback", "fallback", false},
	{"kernel", "tc", false},
	{"relay", "tc", true},
	{"relay-fallback", "fallback", true},
}

// sameConfig has functions of every kind, and listeners.
const sameConfig = `functions:
  - {name: plain, url: "http://plain.local/ingest", pods: [&a "%[1]s", &b "%[2]s"]}
  - name: dressed
    url: http://dressed.local/a/b?c=d
    pods: ["%[1]s", "%[2]s"]
    content_type: application/json
    headers: {X-Tenant: acme, Authorization: Bearer abc}
    cloudevents: {source: /plants/1, type: com.example.reading}
  - {name: own, url: "http://own.local/", pods: ["%[1]s", "%[2]s"], cloudevents: {from_publisher: true}}
  - {name: structured, url: "http://structured.local/", pods: ["%[1]s", "%[2]s"], cloudevents: {mode: structured}}
routes:
  - {topic: "plain/+/x", function: plain}
  - {topic: "dressed/#", function: dressed}
  - {topic: "own/#", function: own}
  - {topic: "structured/#", function: structured}
  - {topic: "ordered/#", function: plain, ordered: true}
  - {topic: "both/#", function: dressed, also_broker: true}
  - {topic: "fan/#", function: plain}
  - {topic: "fan/+/x", functions: [plain, dressed]}
auth: {allow_anonymous: true, users: [{username: dev, password_hash: '%[3]s'}]}
listeners:
  - address: ":1883"
  - {address: ":8883", tls: {cert: %[4]s, key: %[5]s}}
  - {address: ":8083", websocket: true}
  - {address: ":8084", websocket: true, tls: {cert: %[4]s, key: %[5]s}}
`

// action is what a client does, once on each path.
type action struct {
	client, name string
	n            int // requests that come of it
	do           func(*actor) error
	vary         string // expression of what differs from one run to the next
}

// actor is a client that acts.
type actor struct {
	t    *testing.T
	lab  *lab.Lab
	id   string
	ca   *certs.Authority
	came func() // waits for the first request of this action
}

func (a *actor) topic(function string) string { return function + "/" + a.id + "/x" }

func (a *actor) addr() string { return net.JoinHostPort(lab.NodeV4.String(), "1883") }

// TestSameRequestsOnAllPaths: whatever a real client does, its functions get the same requests on every path, byte for byte; only ce-id
// is another.
func TestSameRequestsOnAllPaths(t *testing.T) {
	all := actions()
	ca := certs.New(t)
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	got := make([][][]string, len(samePaths))
	for i, p := range samePaths {
		t.Run(p.name, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveWire(t, l)
			server := ca.Issue("server", net.ParseIP(lab.NodeV4.String()))
			config := podConfig(fmt.Sprintf(sameConfig, "%[1]s", "%[2]s", string(hash), server.Cert, server.Key), false)
			if p.relay {
				startMosquitto(t, l, 1884, "")
				config = relayTo(1884) + config
			}
			s := start(t, l, p.mode, config)
			got[i] = s.act(t, r, all, ca)
		})
	}
	if t.Failed() {
		return
	}
	for i, p := range samePaths[1:] {
		for k, x := range all {
			compareRequests(t, fmt.Sprintf("%s: %s on the path %s", x.client, x.name, p.name), got[0][k], got[i+1][k])
		}
	}
}

// act has all clients act, one after the other, and returns what the functions got of each.
func (s *system) act(t *testing.T, r *recorder, all []action, ca *certs.Authority) [][]string {
	t.Helper()
	warm := 0
	if s.mode != "fallback" {
		s.warm(t, "plain/warm/x", 8)
		warm = len(first(r.all()))
	}
	before, sum := s.counts(), warm
	out := make([][]string, len(all))
	for k, x := range all {
		a := &actor{t: t, lab: s.lab, id: fmt.Sprintf("c%03d", k), ca: ca, came: func() { r.waitFor(t, sum+1, x.client+": "+x.name) }}
		if err := x.do(a); err != nil {
			t.Fatalf("%s: %s: %v", x.client, x.name, err)
		}
		requests := r.waitFor(t, sum+x.n, x.client+": "+x.name)
		for _, q := range requests[sum : sum+x.n] {
			out[k] = append(out[k], recorded(q, x.vary))
		}
		slices.Sort(out[k]) // two pods: which is first is nobody's business
		sum += x.n
	}
	if n := len(first(r.all())); n != sum {
		t.Errorf("the functions got %d requests, want %d", n, sum)
	}
	if s.mode != "fallback" {
		taken, _ := share(before, s.counts())
		t.Logf("the kernel took %d of %d messages", taken, sum-warm)
		if taken*4 < sum-warm { // QoS 2, TLS, WebSockets, long messages and the like are for the fallback
			t.Errorf("the kernel took %d of %d messages: %v", taken, sum-warm, s.counts())
		}
	}
	return out
}

// differing is what differs between two requests for the same message.
var differing = regexp.MustCompile(`(?m)^ce-id: .*$|"id":"[^"]*"`)

// recorded is a request without what may differ.
func recorded(q request, vary string) string {
	text := q.head + "\r\n" + q.body
	if strings.HasPrefix(q.body, "{\"") { // a structured event has its identifier in the body
		text = regexp.MustCompile(`(?m)^Content-Length: .*$`).ReplaceAllString(text, "Content-Length: *\r")
	}
	text = differing.ReplaceAllString(text, "*\r")
	if vary != "" {
		text = regexp.MustCompile(vary).ReplaceAllString(text, "*")
	}
	return text
}

// compareRequests says which header, or the body, differs.
func compareRequests(t *testing.T, what string, want, got []string) {
	t.Helper()
	for i := range want {
		if want[i] == got[i] {
			continue
		}
		w, g := strings.Split(want[i], "\r\n"), strings.Split(got[i], "\r\n")
		for j := range max(len(w), len(g)) {
			a, b := at(w, j), at(g, j)
			if a != b {
				name, _, _ := strings.Cut(a, ":")
				t.Errorf("%s, request %d of %d, header %q: %.200q, in the fallback %.200q", what, i+1, len(want), name, b, a)
				break
			}
		}
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}
