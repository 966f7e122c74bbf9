package predict

import (
	"math"
	"slices"
	"testing"
	"time"
)

// poissonNumber is drawn with the given mean.
func poissonNumber(mean float64, next func() float64) (n float64) {
	for t := next(); t < mean; t += next() {
		n++
	}
	return n
}

// The forecast is exceeded one time in twenty, whatever happens to the level.
func TestConcurrencyIsCovered(t *testing.T) {
	r := random(1)
	for name, level := range map[string]func(i int) float64{
		"steady":  func(int) float64 { return 20 },
		"by day":  func(i int) float64 { return 20 + 18*math.Sin(float64(i)/500) },
		"jumps":   func(i int) float64 { return []float64{3, 60}[i/400%2] },
		"growing": func(i int) float64 { return 1 + float64(i)/100 },
	} {
		for _, horizon := range []int{1, 3, 12} {
			c, err := NewConcurrency(horizon)
			if err != nil {
				t.Fatal(err)
			}
			const ticks = 8000
			var seen, bound [ticks]float64
			for i := range ticks {
				seen[i] = poissonNumber(level(i), r.ExpFloat64)
				c.Observe(seen[i])
				bound[i] = c.Bound()
			}
			missed := 0
			for i := range bound[:ticks-horizon] {
				if slices.Max(seen[i+1:i+1+horizon]) > bound[i] {
					missed++
				}
			}
			if share := float64(missed) / (ticks - float64(horizon)); share < 0.03 || share > 0.06 || math.Abs(share-float64(c.Missed)/float64(c.Judged)) > 0.01 {
				t.Errorf("%s, %d ticks ahead: %.3f of the forecasts exceeded", name, horizon, share)
			}
		}
	}
}

// The floor is the least that does: about the 95th percentile of a known process.
func TestFloorIsNotTooHigh(t *testing.T) {
	c, err := NewConcurrency(1)
	if err != nil {
		t.Fatal(err)
	}
	r := random(2)
	total := 0
	for i := range 8000 {
		c.Observe(poissonNumber(20, r.ExpFloat64))
		if i >= 4000 {
			total += c.Floor(1)
		}
	}
	if mean := float64(total) / 4000; mean < 27 || mean > 30 { // the 95th percentile is 28
		t.Errorf("the floor is %.1f on average", mean)
	}
	for range 100 {
		c.Observe(0)
	}
	if c.Floor(1) != 0 {
		t.Errorf("the floor of a function that sleeps is %d", c.Floor(1))
	}
}

func TestHorizonIsChecked(t *testing.T) {
	for _, h := range []int{0, -1, MaxHorizon + 1} {
		if _, err := NewConcurrency(h); err == nil {
			t.Errorf("a horizon of %d passes", h)
		}
	}
}

// Knative's rules: what is wanted is the average by the target; at most half
// goes at a time; twice what can be served is panic, in which nothing goes.
func TestKPARules(t *testing.T) {
	k := NewKPA(1)
	now, ready := 1000*time.Second, 1
	run := func(seconds int, concurrency float64) {
		for range seconds {
			k.Record(now, concurrency)
			now += time.Second
			if now%(2*time.Second) == 0 {
				ready = k.Scale(now, ready)
			}
		}
	}
	run(70, 10)
	if ready != 10 || k.panicking {
		t.Fatalf("steady: %d, panicking %v", ready, k.panicking)
	}
	run(6, 40)
	if ready != 40 || !k.panicking {
		t.Fatalf("burst: %d, panicking %v", ready, k.panicking)
	}
	run(50, 0)
	if ready != 40 {
		t.Fatalf("taken away while panicking: %d", ready)
	}
	run(14, 0)
	if ready == 0 || ready > 20 {
		t.Fatalf("after the panic: %d", ready)
	}
	run(70, 0)
	if ready != 0 || k.Quiet(now) {
		t.Fatalf("asleep: %d, quiet %v", ready, k.Quiet(now))
	}
	if now += 61 * time.Second; !k.Quiet(now) {
		t.Error("not quiet after a minute without a record")
	}
}

func TestEvictionOrder(t *testing.T) {
	e := NewEviction()
	any := func(string) bool { return true }
	evict := func(may func(string) bool) string { k, _ := e.Evict(may); return k }
	e.Use("dear", 100, 10)
	e.Use("big", 100, 1000)
	e.Use("small", 100, 100)
	e.Use("often", 100, 1000)
	for range 30 {
		e.Use("often", 100, 1000)
	}
	got := []string{evict(any), evict(any), evict(any), evict(any)}
	if want := []string{"big", "small", "often", "dear"}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
	if _, ok := e.Evict(any); ok || e.Len() != 0 {
		t.Error("one more than there were")
	}
	// Worth fades: what was dear once goes when others have come and gone.
	e = NewEviction()
	e.Use("old", 5, 1)
	for i := range 10 {
		key := string(rune('a' + i))
		e.Use(key, 1, 1)
		if got := evict(any); got == "old" {
			if i < 3 || i > 7 {
				t.Errorf("the old one goes in turn %d", i)
			}
			break
		} else if i == 9 {
			t.Error("the old one stays for ever")
		}
	}
	// Among equals the longest unused, and none that is busy.
	e = NewEviction()
	for _, k := range []string{"a", "b", "c"} {
		e.Use(k, 1, 1)
	}
	if got := evict(func(k string) bool { return k != "a" }); got != "b" {
		t.Errorf("%s goes, a is busy", got)
	}
	e.Remove("c")
	if got := evict(any); got != "a" || e.Len() != 0 {
		t.Errorf("%s goes, %d are left", got, e.Len())
	}
}

// Room gives up no more than it must, and says when all that may go does not suffice.
func TestRoom(t *testing.T) {
	sizes := map[string]float64{"a": 10, "b": 20, "busy": 100}
	for _, c := range []struct {
		need, free float64
		given      []string
		ok         bool
	}{{5, 5, nil, true}, {15, 5, []string{"a"}, true}, {16, 5, []string{"a", "b"}, true}, {40, 5, []string{"a", "b"}, false}} {
		e := NewEviction()
		e.Use("a", 1, 1)
		e.Use("busy", 1, 1000)
		e.Use("b", 2, 1)
		given, ok := Room(e, c.need, c.free, func(key string) bool { return key != "busy" }, func(key string) float64 { return sizes[key] })
		if !slices.Equal(given, c.given) || ok != c.ok {
			t.Errorf("%v of which %v is free: %v, %v", c.need, c.free, given, ok)
		}
		if !e.Knows("busy") || slices.Contains(given, "a") == e.Knows("a") {
			t.Errorf("%v of which %v is free: what stays is not what was not given up", c.need, c.free)
		}
	}
}
