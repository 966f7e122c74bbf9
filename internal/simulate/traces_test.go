package simulate

import (
	"bytes"
	"compress/gzip"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const traces = "../../bench/proactive/traces"

func TestTracesAreRead(t *testing.T) {
	devices, err := LoRaWAN(filepath.Join(traces, "campusiot/lorawan.csv.gz"))
	if err != nil {
		t.Fatal(err)
	}
	functions, err := Azure(filepath.Join(traces, "azure2019/minutes.csv.gz"), 1)
	if err != nil {
		t.Fatal(err)
	}
	uplinks, calls, minutes := 0, 0, 0
	for _, f := range devices {
		uplinks += len(f.Arrivals)
	}
	for _, f := range functions {
		calls += len(f.Calls)
		minutes += len(f.Arrivals)
	}
	if len(devices) != 5 || uplinks != 31780 || len(functions) != 250 || calls != 543298 || minutes != 30013 {
		t.Errorf("%d devices, %d uplinks, %d functions, %d calls in %d minutes", len(devices), uplinks, len(functions), calls, minutes)
	}
	for _, f := range append(devices, functions...) {
		for i, at := range f.Arrivals {
			if at > f.End || i > 0 && at < f.Arrivals[i-1] {
				t.Fatalf("%s: arrival %d at %v, the one before at %v, the end at %v", f.Name, i, at, f.Arrivals[i-1], f.End)
			}
		}
	}
}

func TestBadTracesAreRefused(t *testing.T) {
	azure := func(file string) error { _, err := Azure(file, 1); return err }
	lorawan := func(file string) error { _, err := LoRaWAN(file); return err }
	const head = "function,trigger,duration_ms_p50,duration_ms_p99,memory_mb,480\n"
	for _, c := range []struct {
		read       func(string) error
		text, says string
	}{
		{lorawan, "", "line 1: EOF"},
		{lorawan, "a,b,c\n1,x,1\n", "line 2: the head is not unix_ms,device,fcnt"},
		{lorawan, "unix_ms,device,fcnt\n1,x,1\n2,x\n", "line 3: wrong number of fields"},
		{lorawan, "unix_ms,device,fcnt\n1,x,1\n-2,x,2\n", `line 3: unix_ms is "-2"`},
		{azure, "unix_ms,device,fcnt\n1,x,1\n", "line 2: the head is not function"},
		{azure, head + "f,http,1,1,1,1\ng,http,1,1,1,99999999\n", `line 3: calls are "99999999"`},
		{azure, head + "f,http,x,1,1,1\n", `line 2: duration_ms_p50 is "x"`},
		{azure, head + "f,http,1,1,0,1\n", `line 2: memory_mb is "0"`},
		{azure, strings.Replace(head, "480", "x", 1) + "f,http,1,1,1,1\n", `line 2: minute is "x"`},
	} {
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		_, _ = io.WriteString(w, c.text)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "trace.csv.gz")
		if err := os.WriteFile(file, z.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := c.read(file); err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), file) {
			t.Errorf("%q: %v, want %q", c.text, err, c.says)
		}
	}
	if err := azure("/nowhere"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestSummaryByHand(t *testing.T) {
	var results []Result
	for cold := range 10 { // of ten arrivals each
		r := Result{Arrivals: 10, Cold: cold, Warm: 10 - cold, Starts: cold, Idle: time.Hour}
		for range cold {
			r.Waits = append(r.Waits, Start)
		}
		results = append(results, r)
	}
	results = append(results, Result{Arrivals: 1, Cold: 1, Starts: 1, Waits: []time.Duration{5 * Start}}) // too few to rank
	s := Summarise("c", "p", results, costs)
	if s.Cold != 46 || s.Arrivals != 101 || s.P75 != 0.7 || s.P90 != 0.8 || s.Worst != 0.9 || s.Wait != Start || s.Idle != 10*time.Hour {
		t.Errorf("%+v", s)
	}
	if want := 36000 + 46 + 600*50.0; s.Cost != want {
		t.Errorf("cost %v, want %v", s.Cost, want)
	}
	better := &Summary{Class: "c", Policy: "better", Arrivals: 101, Cold: 45, Idle: time.Hour}
	equal := &Summary{Class: "c", Policy: "equal", Arrivals: 101, Cold: 46, Idle: time.Hour}
	reference := &Summary{Class: "c", Policy: "reference", Reference: true}
	if d := s.Dominators([]*Summary{s, better, equal, reference}); len(d) != 1 || d[0] != "better" {
		t.Errorf("beaten by %v", d)
	}
}

// The drawing is XML and has each policy once.
func TestDrawing(t *testing.T) {
	all := []*Summary{
		{Class: "a & b", Policy: "one", Arrivals: 10, Cold: 1, Idle: time.Hour},
		{Class: "a & b", Policy: "two", Arrivals: 10, Cold: 0, Idle: 0},
		{Class: "other", Policy: "one", Reference: true},
	}
	var b bytes.Buffer
	if err := WriteSVG(&b, []string{"a & b", "other"}, all, []string{"one"}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "<circle"); n != len(all) {
		t.Errorf("%d dots", n)
	}
	d := xml.NewDecoder(&b)
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// On no class of the traces has a rival both fewer cold starts and less idle
// time than the selector. (On made-up loads see docs/PREDICTION.md.)
func TestNobodyBeatsTheSelectorInBoth(t *testing.T) {
	devices, err := LoRaWAN(filepath.Join(traces, "campusiot/lorawan.csv.gz"))
	if err != nil {
		t.Fatal(err)
	}
	functions, err := Azure(filepath.Join(traces, "azure2019/minutes.csv.gz"), 1)
	if err != nil {
		t.Fatal(err)
	}
	byClass := make(map[string][]*Function)
	for _, f := range append(devices, functions...) {
		byClass[f.Class] = append(byClass[f.Class], f)
	}
	for class, fs := range byClass {
		var all []*Summary
		for _, p := range Policies(costs) {
			var results []Result
			for _, f := range fs {
				results = append(results, Sleep(f, p))
			}
			s := Summarise(class, p.Name, results, costs)
			s.Reference = p.Reference
			all = append(all, s)
		}
		if by := all[0].Dominators(all); len(by) > 0 {
			t.Errorf("%s: %s", class, by)
		}
	}
}
