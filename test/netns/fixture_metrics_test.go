package netns

import (
	"context"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"eproxy/test/lib/lab"
)

// metricsConfig makes a configuration's metrics readable by scrape.
const metricsConfig = "metrics: {listen: \"127.0.0.1:9464\"}\n"

// scrape reads the node's metrics as Prometheus would.
func scrape(t *testing.T, l *lab.Lab) string {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		return l.Dial(ctx, lab.Node, address)
	}}
	resp, err := (&http.Client{Transport: tr}).Get("http://127.0.0.1:9464/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d: %v\n%s", resp.StatusCode, err, b)
	}
	return string(b)
}

// series are the values of a scrape by name and labels, as they are written.
type series map[string]float64

var sample = regexp.MustCompile(`(?m)^([a-z_]+(?:\{.*\})?) (\S+)$`)

func scrapeSeries(t *testing.T, l *lab.Lab) series {
	t.Helper()
	s := series{}
	for _, m := range sample.FindAllStringSubmatch(scrape(t, l), -1) {
		v, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		s[m[1]] = v
	}
	return s
}

// sum adds up the values of one name whose labels contain all of these
// (`code="200"`).
func (s series) sum(name string, labels ...string) (n int) {
	for k, v := range s {
		matches := strings.HasPrefix(k, name+"{")
		for _, l := range labels {
			matches = matches && strings.Contains(k, l)
		}
		if matches {
			n += int(v)
		}
	}
	return n
}

// grows says whether a sample may only grow.
func grows(name string) bool {
	name, _, _ = strings.Cut(name, "{")
	for _, end := range []string{"_total", "_count", "_sum", "_bucket"} {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}

// fell are the counters that are less than before, or gone.
func (s series) fell(before series) (out []string) {
	for k, v := range before {
		if now, ok := s[k]; grows(k) && (!ok || now < v) {
			out = append(out, k)
		}
	}
	return out
}

// waitSeries scrapes until the counters say what they are to say.
func waitSeries(t *testing.T, l *lab.Lab, ok func(series) bool) series {
	t.Helper()
	late := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		s := scrapeSeries(t, l)
		if ok(s) {
			return s
		}
		select {
		case <-late:
			t.Fatalf("the counters never say so:\n%s", scrape(t, l))
		case <-tick.C:
		}
	}
}
