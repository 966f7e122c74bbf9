package main

import (
	"bytes"
	"os"
	"testing"
)

// TestGeneratedFilesAreFresh fails when the committed files are not what the headers say.
func TestGeneratedFilesAreFresh(t *testing.T) {
	files, err := Generate("../..")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is stale: run make generate (%v)", name, err)
		}
	}
}
