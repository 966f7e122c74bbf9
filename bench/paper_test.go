package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sample has a row that was measured, one that was saturated, and one that is missing.
func sample() *paperResult {
	run := func(charged, offered, p50 float64) paperRun {
		return paperRun{Offered: offered, Rate: offered, P50: p50, Charged: charged, Parts: map[string]float64{partDevice: charged}}
	}
	return &paperResult{Processors: 2, Idle: 2, Rate: 500, Rows: []*paperRow{
		{Name: "http", Rounds: []paperRun{run(100, 500, 90), run(400, 500, 90), run(200, 500, 90)}, Delays: []paperRun{run(1, 500, 100), run(1, 1000, 200)}},
		{Name: "slow", Rounds: []paperRun{run(200, 500, 90), run(800, 500, 90), run(600, 500, 90)}, Delays: []paperRun{run(1, 500, 100), run(1, 1000, 2e6)}, Saturated: 1000},
		{Name: "queue<proxy", Missing: "missing: bin/paper/queue"},
	}}
}

func TestPaperTable(t *testing.T) {
	var b strings.Builder
	sample().print(&b)
	rows := map[string][]string{}
	for line := range strings.Lines(b.String()) {
		if f := strings.Fields(line); len(f) > 1 && rows[f[0]] == nil {
			rows[f[0]] = f
		}
	}
	if got := strings.Join(rows["slow"], " "); !strings.Contains(got, "2.00 (2.00 to 3.00)") {
		t.Errorf("ratios are not those of the same rounds: %s", got)
	}
	if !strings.Contains(b.String(), "queue<proxy  missing: bin/paper/queue") {
		t.Errorf("what is missing is not said:\n%s", b.String())
	}
	if got := rows["slow"]; got[7] != "?" || got[8] != "?" {
		t.Errorf("other and total of a machine that did something else: %q, %q, not ?", got[7], got[8])
	}
	if got := sample().Rows[1].carries(); got != "500" {
		t.Errorf("a row saturated at 1000 carries %s, not 500", got)
	}
	if got := sample().Rows[0].carries(); got != "1000" {
		t.Errorf("a row that carried all carries %s, not 1000", got)
	}
}

func TestPaperDrawings(t *testing.T) {
	p := sample()
	for name, draw := range map[string]func(io.Writer) error{"cpu": p.drawParts, "delay": p.drawDelays} {
		var b bytes.Buffer
		if err := draw(&b); err != nil {
			t.Fatal(err)
		}
		d := xml.NewDecoder(bytes.NewReader(b.Bytes()))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s is no XML: %v", name, err)
			}
		}
		if bytes.Contains(b.Bytes(), []byte("NaN")) || bytes.Contains(b.Bytes(), []byte("Inf")) {
			t.Errorf("%s has coordinates that are no numbers", name)
		}
	}
}

func TestArrivals(t *testing.T) {
	a := newArrivals(filepath.Join(t.TempDir(), "arrivals"))
	read, err := noteArrivals(t.Context(), a.path)
	if err != nil {
		t.Fatal(err)
	}
	const ago = time.Minute
	for range 3 {
		read(strings.NewReader(fmt.Sprintf("%016x rest", time.Now().Add(-ago).UnixNano())))
	}
	if err := a.await(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	log, err := a.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if log.Count != 3 || log.P50 < ago || log.P50 > 2*ago || log.Last.Before(log.First) {
		t.Errorf("three messages sent a minute ago: %+v", log)
	}
	if log, err := a.take(t.Context()); err != nil || log.Count != 0 {
		t.Errorf("after it was taken: %+v, %v", log, err)
	}
}
