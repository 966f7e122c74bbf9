package netns

import (
	"fmt"
	"slices"
	"strings"
	"testing"
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
