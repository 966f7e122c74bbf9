package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeNamesEveryRefusal: README.md's section on what is never taken names every
// reason for which the programs leave a message to userspace, and no other.
func TestReadmeNamesEveryRefusal(t *testing.T) {
	refusals := map[string]bool{"response_handed": true, "park_full": true, "expiry": true, "copies_full": true}
	for _, f := range []string{"admit/publish.h", "pure/mqtt.h", "admit/properties.h", "admit/alias.h", "pure/properties.h", "request/bytes.h", "request/lines.h", "request/write.h", "route/route.h", "route/topic.h", "take/take.h", "upstream/begin.h"} { // what take_publish comes to
		b, err := os.ReadFile("../../bpf/" + f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\bREASON_([A-Z0-9_]+)\b`).FindAllSubmatch(b, -1) {
			refusals[strings.ToLower(string(m[1]))] = true
		}
	}
	delete(refusals, "taken")
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n### What is never taken\n")
	section, _, _ = strings.Cut(section, "\n## ")
	abi, err := readABI("../..")
	if err != nil {
		t.Fatal(err)
	}
	reasons, err := enumerators(abi, "reason")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range reasons {
		if named := strings.Contains(section, "`"+r.name+"`"); named != refusals[r.name] {
			t.Errorf("%s: named %v, refuses %v", r.name, named, refusals[r.name])
		}
	}
}
