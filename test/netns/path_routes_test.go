package netns

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"eproxy/test/lib/lab"
)

// manyFilters are 10,000 filters of all kinds, many of which match the same
// topics; shift makes another set of which a part is the same. Those of so many
// of 25 sites begin with '+', which makes everything else intertwined with them.
func manyFilters(shift, intertwined int) []string {
	var fs []string
	for i := range 1000 {
		a, b := i/40, i%40+shift
		alarm := fmt.Sprintf("alarm/%d/+/%d", a, b)
		if a < intertwined {
			alarm = fmt.Sprintf("+/%d/alarm/%d", a, b)
		}
		fs = append(fs,
			fmt.Sprintf("site/%d/dev/%d/temp", a, b),
			fmt.Sprintf("site/%d/+/%d/hum", a, b),
			fmt.Sprintf("site/%d/dev/%d/#", a, b),
			fmt.Sprintf("site/%d/dev/+/k%d", a, b),
			alarm,
			fmt.Sprintf("plant/+/%d/+/%d", a, b),
			fmt.Sprintf("zone/%d/#", i+shift),
			fmt.Sprintf("$edge/%d/%d/state", a, b),
			fmt.Sprintf("$edge/%d/+/m%d", a, b))
		if i > 2 {
			fs = append(fs, fmt.Sprintf("area%d/+/#", i+shift))
		}
	}
	return append(fs, "steady/#", "+/+", "$edge/#")
}

// reference finds routes another way than the product does: it makes up the
// filters that match a topic, the most specific first, until one is there.
type reference map[string]string // filter -> function

func newReference(filters []string, swap int) reference {
	ref := reference{}
	for i, f := range filters {
		ref[f] = []string{"even", "odd"}[(i+swap)%2]
	}
	return ref
}

// config has a route for each filter, in that order.
func (ref reference) config(filters []string) string {
	var b strings.Builder
	b.WriteString("routes:\n")
	for _, f := range filters {
		fmt.Fprintf(&b, "  - {topic: %q, function: %s}\n", f, ref[f])
	}
	return b.String()
}

func (ref reference) filter(name string) string {
	levels := strings.Split(name, "/")
	var try func(prefix []string) string
	known := func(levels ...string) string {
		if f := strings.Join(levels, "/"); ref[f] != "" {
			return f
		}
		return ""
	}
	try = func(prefix []string) string {
		n := len(prefix)
		if n == len(levels) {
			if f := known(prefix...); f != "" {
				return f
			}
			return known(append(prefix[:n:n], "#")...)
		}
		if f := try(append(prefix[:n:n], levels[n])); f != "" {
			return f
		}
		if n == 0 && strings.HasPrefix(name, "$") { // [MQTT-4.7.2-1]
			return ""
		}
		if f := try(append(prefix[:n:n], "+")); f != "" {
			return f
		}
		return known(append(prefix[:n:n], "#")...)
	}
	return try(nil)
}

// names are topics near some of the filters, and some near none.
func names(rng *rand.Rand, filters []string, n int) []string {
	words := []string{"dev", "alarm", "temp", "hum", "7", "12", "", "k5", "x y", "ü"}
	word := func() string { return words[rng.IntN(len(words))] }
	var out []string
	for i := range n {
		var levels []string
		for _, l := range strings.Split(filters[(i*7919+rng.IntN(10))%len(filters)], "/") {
			switch {
			case l == "#":
				for range rng.IntN(4) {
					levels = append(levels, word())
				}
			case l == "+" || rng.IntN(12) == 0:
				levels = append(levels, word())
			default:
				levels = append(levels, l)
			}
		}
		if name := strings.Join(levels, "/"); name != "" {
			out = append(out, name)
		}
	}
	return append(out, "none/of/them/matches", "$other", "/", "zone", "zone/5", "area9", "area9/", "$edge", "x/y", "x/y/z")
}

const twoFunctions = `functions:
  - {name: even, url: "http://even.local/ingest", pods: ["%s", "%s"]}
  - {name: odd, url: "http://odd.local/ingest", pods: ["%[1]s", "%[2]s"]}
`

// TestManyRoutes: with 10,000 routes each message takes the kernel path to the
// function that the most specific filter names, before and after a reload under load.
func TestManyRoutes(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			seed := seedOf(t)
			rng := rand.New(rand.NewPCG(seed, 4))
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			filters := manyFilters(0, 1)
			ref := newReference(filters, 0)
			began := time.Now()
			s := start(t, l, mode, podConfig(twoFunctions, false)+ref.config(filters))
			t.Logf("%d routes; serving after %s", len(filters), time.Since(began).Round(time.Millisecond))
			c := rawConnect(t, l, "many")
			idle := rawConnect(t, l, "idle")
			s.checkRoutes(t, r, c, ref, names(rng, filters, 400))

			tangled := manyFilters(0, 25)
			s.reload(ref.config(filters), newReference(tangled, 1).config(tangled), "too intertwined")
			s.reload(newReference(tangled, 1).config(tangled), ref.config(filters), "msg=reloaded")
			s.checkRoutes(t, r, c, ref, names(rng, filters, 100))

			stop, done := make(chan struct{}), make(chan int)
			go steady(t, l, stop, done)
			other := manyFilters(20, 1)
			changed := newReference(other, 1)
			began = time.Now()
			s.reload(ref.config(filters), changed.config(other), "msg=reloaded")
			t.Logf("reloaded after %s", time.Since(began).Round(time.Millisecond))
			close(stop)
			if n := <-done; n < 10 {
				t.Errorf("%d messages while routes were reloaded: the test tests little", n)
			}
			s.checkRoutes(t, r, c, changed, names(rng, other, 400))
			idle.write([]byte{0xc0, 0})
			idle.read([]byte{0xd0, 0})
		})
	}
}

// steady publishes to a topic whose route stays the same, until it is stopped,
// and says how many messages it was.
func steady(t *testing.T, l *lab.Lab, stop chan struct{}, done chan int) {
	n := 0
	defer func() { done <- n }()
	c := rawConnect(t, l, "steady")
	for {
		select {
		case <-stop:
			return
		default:
			n++
			c.publish("steady/on", uint16(n%60000+1), fmt.Sprint(n))
		}
	}
}

// checkRoutes publishes to each topic and checks where it went, and by which route.
func (s *system) checkRoutes(t *testing.T, r *recorder, c *rawConn, ref reference, topics []string) {
	t.Helper()
	r.forget()
	taken := s.takenByFilter()
	want := map[string]int{}
	matched := 0
	for i, name := range topics {
		c.publish(name, uint16(i+1), fmt.Sprint(i))
		if f := ref.filter(name); f != "" {
			want[f]++
			matched++
		}
	}
	got := r.wait(t, matched)
	if len(got) != matched {
		t.Errorf("%d of %d messages have routes, %d were delivered", matched, len(topics), len(got))
	}
	for _, q := range got {
		var i int
		if _, err := fmt.Sscan(q.body, &i); err != nil || i >= len(topics) {
			t.Fatalf("unexpected message %q", q.body)
		}
		if f := ref.filter(topics[i]); q.headers["host"] != ref[f]+".local" {
			t.Errorf("%q went to %s, but %q leads to %s", topics[i], q.headers["host"], f, ref[f])
		}
	}
	after := s.takenByFilter()
	for f, n := range taken {
		after[f] -= n
	}
	maps.DeleteFunc(after, func(_ string, n int) bool { return n == 0 })
	if !maps.Equal(after, want) {
		t.Errorf("taken by route: %v, want %v", after, want)
	}
	for i := 0; i < len(topics); i += 200 {
		s.checkExplanation(t, ref, topics[i])
	}
}

// takenByFilter is what the kernel took, by route.
func (s *system) takenByFilter() map[string]int {
	s.t.Helper()
	m := map[string]int{}
	for _, r := range s.mapsctl("routes") {
		m[r["topic"].(string)] = int(r["taken"].(float64))
	}
	return m
}

// checkExplanation compares what mapsctl routes test says with the reference.
func (s *system) checkExplanation(t *testing.T, ref reference, name string) {
	t.Helper()
	winner := ""
	for _, row := range s.routesTest(name) {
		wins, kernel := row["result"] == "wins", row["kernel"] == true
		if wins != kernel {
			t.Errorf("routes test %q: %v", name, row)
		}
		if wins {
			winner = row["topic"].(string)
		}
	}
	if want := ref.filter(name); winner != want {
		t.Errorf("routes test %q says %q, want %q", name, winner, want)
	}
}
