package netns

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// zero are functions that have no instance at rest. A request to slow takes half a second, so that a burst needs several.
const zero = `
listeners: [{address: ":1883"}]
functions:
  - {name: rare, url: "http://rare.local/", run: {command: [node, -e, %[1]q, "0"], instances: {max: 1}, lambda: 1s}}
  - {name: slow, url: "http://slow.local/", concurrency: 2, run: {command: [node, -e, %[1]q, "500"], instances: {max: %[2]d}}}
routes:
  - {topic: "z/+/rare", function: rare}
  - {topic: "z/+/slow", function: slow}
`

// nodeFunction says what it gets, and answers after so many milliseconds.
const nodeFunction = `require('http').createServer((q, s) => q.resume().on('end', () => {
	console.log(q.headers['ce-subject']); setTimeout(() => s.end('ok'), process.argv[1]) })).listen(process.env.PORT)`

// TestFunctionFromZero: a function without instances has one begun for the message that waits, several for a burst, and none when
// nothing has come for lambda; each message is delivered once.
func TestFunctionFromZero(t *testing.T) {
	const most, burst, rounds = 3, 60, 3
	l := newLab(t)
	s := start(t, l, "tc", fmt.Sprintf(zero, nodeFunction, most))
	// at waits until a function is in a state with so many instances.
	at := func(function, state string, instances int) {
		t.Helper()
		until(t, fmt.Sprintf("%s to be %s with %d instances", function, state, instances), func() bool {
			for _, row := range s.mapsctl("functions") {
				if row["name"] == function && row["state"] == state && row["instances"] == float64(instances) {
					return true
				}
			}
			return false
		})
	}
	var sent []string
	c := rawConnect(t, l, "d")
	for n := range rounds {
		at("rare", "stopped", 0)
		sent = append(sent, fmt.Sprintf("z/%d/rare", n))
		c.publish(sent[n], uint16(n+1), "x")
		at("rare", "ready", 1)
	}
	at("slow", "stopped", 0)
	var many []message
	for n := range burst {
		many = append(many, message{topic: fmt.Sprintf("z/%d/slow", n), qos: 1, payload: "x"})
		sent = append(sent, many[n].topic)
	}
	done := make(chan error, 1)
	go func() { done <- c.tryPublishAll(slices.Values(many), burst, 0) }()
	at("slow", "ready", most)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, topic := range sent {
		if n := strings.Count(s.Log()+"\n", "line="+topic+"\n"); n != 1 {
			t.Errorf("the message to %s was delivered %d times", topic, n)
		}
	}
}

// An instance has some 75 MiB, and counts with crowdedEach before there was one: two have room, three have not.
const (
	crowdedMemory, crowdedEach = 205, 110
	crowdedFunction            = "const held = Buffer.alloc(64 << 20, 1); " + nodeFunction
)

// crowded are functions that have memory for two of the three.
const crowded = metricsConfig + `
listeners: [{address: ":1883"}]
runtime: {memory: %[2]dMi}
functions:
  - {name: a, url: "http://a.local/", run: {command: [node, -e, %[1]q, "0"], instances: {max: 1}, memory: %[3]dMi}}
  - {name: b, url: "http://b.local/", run: {command: [node, -e, %[1]q, "0"], instances: {max: 1}, memory: %[3]dMi}}
  - {name: slow, url: "http://slow.local/", run: {command: [node, -e, %[1]q, "20000"], instances: {max: 1}, memory: %[3]dMi}}
routes:
  - {topic: "m/+/a", function: a}
  - {topic: "m/+/b", function: b}
  - {topic: "m/+/slow", function: slow}
`

// TestFunctionsShareMemory: functions that have no room beside each other take turns, each message is delivered once, and the one that has
// a request in flight meanwhile answers it.
func TestFunctionsShareMemory(t *testing.T) {
	l := newLab(t)
	s := start(t, l, "tc", fmt.Sprintf(crowded, crowdedFunction, crowdedMemory, crowdedEach))
	sent := []string{"m/0/slow"}
	answered := make(chan error, 1)
	other := rawConnect(t, l, "other")
	go func() {
		answered <- other.tryPublishAll(slices.Values([]message{{topic: "m/0/slow", qos: 1, payload: "x"}}), 1, time.Minute)
	}()
	until(t, "request in flight", func() bool { return strings.Contains(s.Log(), "line=m/0/slow") })
	c := rawConnect(t, l, "d")
	for n := range 6 {
		topic := fmt.Sprintf("m/%d/%c", n, 'a'+n%2)
		sent = append(sent, topic)
		c.publish(topic, uint16(n+1), "x")
		if got := scrapeSeries(t, l).sum("eproxy_instance_memory_bytes"); got > crowdedMemory<<20 {
			t.Errorf("instances have %d MiB", got>>20)
		}
	}
	select {
	case err := <-answered:
		t.Errorf("the slow one was not at work meanwhile: %v", err)
	default:
	}
	if err := <-answered; err != nil {
		t.Errorf("the slow one: %v", err)
	}
	for _, topic := range sent {
		if n := strings.Count(s.Log()+"\n", "line="+topic+"\n"); n != 1 {
			t.Errorf("the message to %s was delivered %d times", topic, n)
		}
	}
	now := scrapeSeries(t, l)
	if n := now.sum("eproxy_instances_evicted_total", `function="slow"`); n != 0 {
		t.Errorf("the one with work was stopped")
	}
	if n := now.sum("eproxy_instances_evicted_total"); n < 5 {
		t.Errorf("%d times memory was taken from one", n)
	}
}
