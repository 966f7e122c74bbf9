package mochi

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"eproxy/internal/mqtt/samples"
)

// How many normative statements each section has: appendix B of MQTT 5 and of MQTT 3.1.1. Those that do not begin with 1 say where.
const (
	sections5 = `1.5.4:3 1.5.5:1 1.5.7:1 2.1.3:1 2.2.1:2-6 2.2.2:1 3.1.0:2 3.1.2:30 3.1.3:12 3.1.4:6 3.2.0:2 3.2.2:22 3.3.1:13 3.3.2:20 3.3.4:10 3.4.2:3 3.5.2:3
		3.6.1:1 3.6.2:3 3.7.2:3 3.8.1:1 3.8.3:5 3.8.4:8 3.9.2:2 3.9.3:2 3.10.1:1 3.10.3:2 3.10.4:6 3.11.2:2 3.11.3:2 3.12.4:1 3.14.0:1 3.14.1:1 3.14.2:4 3.14.4:3 3.15.1:1 3.15.2:3
		4.1.0:2 4.2.0:1 4.3.1:1 4.3.2:5 4.3.3:13 4.4.0:2 4.5.0:2 4.6.0:6 4.7.0:1 4.7.1:2 4.7.2:1 4.7.3:4 4.8.2:6 4.9.0:3 4.12.0:7 4.12.1:2 4.13.1:1 4.13.2:1 6.0.0:4`
	sections4 = `1.5.3:3 2.2.2:2 2.3.1:7 3.1.0:2 3.1.2:24 3.1.3:11 3.1.4:5 3.2.0:1 3.2.2:6 3.3.1:12 3.3.2:3 3.3.4:1 3.3.5:2 3.6.1:1 3.8.1:1 3.8.3:4 3.8.4:6 3.9.3:2 3.10.1:1 3.10.3:2
		3.10.4:6 3.12.4:1 3.14.1:1 3.14.4:3 4.1.0:2 4.3.1:1 4.3.2:2 4.3.3:2 4.4.0:1 4.5.0:2 4.6.0:6 4.7.1:3 4.7.2:1 4.7.3:4 4.8.0:2 6.0.0:4 7.0.0:2 7.1.1:1 7.1.2:1`
	of311 = " of MQTT 3.1.1"
)

// statements are the clauses of sections.
func statements(sections, version string) (out []string) {
	for s := range strings.FieldsSeq(sections) {
		section, count, _ := strings.Cut(s, ":")
		from, to := 1, 0
		if n, _ := fmt.Sscanf(count, "%d-%d", &from, &to); n == 1 {
			from, to = 1, from
		}
		for i := from; i <= to; i++ {
			out = append(out, fmt.Sprintf("MQTT-%s-%d%s", section, i, version))
		}
	}
	return out
}

// cases are the clauses that a packet is sent for.
func cases() map[string]bool {
	out := make(map[string]bool)
	add := func(clause string) {
		if strings.HasPrefix(clause, "MQTT-") {
			out[strings.Replace(clause, "/3.1.1", of311, 1)] = true
		}
	}
	for _, r := range rules() {
		add(r.clause)
	}
	for _, s := range samples.All {
		add(s.Clause)
	}
	for _, d := range dialogues() {
		for c := range strings.FieldsSeq(d.clauses) {
			add(c)
		}
	}
	return out
}

// TestEveryClauseHasARow: docs/CONFORMANCE.md has each normative statement once, with what shows it; what it says of cases is so.
func TestEveryClauseHasARow(t *testing.T) {
	b, err := os.ReadFile("../../docs/CONFORMANCE.md")
	if err != nil {
		t.Fatal(err)
	}
	rows, version := make(map[string]string), ""
	row := regexp.MustCompile(`^\| (MQTT-[0-9.]+-[0-9]+) \| (.*) \|$`)
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "## MQTT 3.1.1") {
			version = of311
		}
		if m := row.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil {
			if rows[m[1]+version] != "" {
				t.Errorf("%s%s has two rows", m[1], version)
			}
			rows[m[1]+version] = m[2]
		}
	}
	sent, known := cases(), make(map[string]bool)
	for _, clause := range append(statements(sections5, ""), statements(sections4, of311)...) {
		how := rows[clause]
		delete(rows, clause)
		as, same := strings.CutPrefix(how, "as ")
		switch {
		case how == "":
			t.Errorf("%s has no row", clause)
		case how == "cases" && !sent[clause]:
			t.Errorf("%s has no case", clause)
		case same && !sent[strings.TrimSuffix(as, " of MQTT 5")]:
			t.Errorf("%s has no case, nor %s", clause, as)
		case how != "cases" && !same && how != "client" && !strings.HasPrefix(how, "`Test") && !strings.HasPrefix(how, "not shown: "):
			t.Errorf("%s is shown by %q", clause, how)
		}
		known[clause] = true
	}
	for clause := range rows {
		t.Errorf("there is no %s", clause)
	}
	for clause := range sent {
		if !known[clause] {
			t.Errorf("a case shows %s, which there is not", clause)
		}
	}
}
