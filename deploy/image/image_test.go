package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// unpack reads a tar archive: files by name, and the modes.
func unpack(t *testing.T, b []byte) (data map[string][]byte, modes map[string]int64) {
	t.Helper()
	data, modes = map[string][]byte{}, map[string]int64{}
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return data, modes
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		data[h.Name], modes[h.Name] = b, h.Mode
	}
}

// TestImage: the archive holds what the project's own Containerfile says, the same each time.
func TestImage(t *testing.T) {
	text, err := os.ReadFile("../Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	if err := os.Mkdir("bin", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"loader", "mapsctl", "userspace-fallback"} {
		if err := os.WriteFile("bin/"+name, []byte("the "+name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile("Containerfile", text, 0o600); err != nil {
		t.Fatal(err)
	}
	var archives [2][]byte
	for i := range archives {
		if err := write("Containerfile", "localhost/eproxy:latest", "image.tar"); err != nil {
			t.Fatal(err)
		}
		if archives[i], err = os.ReadFile("image.tar"); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two archives of the same files differ")
	}
	outer, _ := unpack(t, archives[0])
	var manifest []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(outer["manifest.json"], &manifest); err != nil || len(manifest) != 1 || len(manifest[0].Layers) != 1 {
		t.Fatalf("%v: %s", err, outer["manifest.json"])
	}
	var config struct {
		OS     string
		Config struct{ Entrypoint, Cmd []string }
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(outer[manifest[0].Config], &config); err != nil {
		t.Fatal(err)
	}
	layer := outer[manifest[0].Layers[0]]
	sum := sha256.Sum256(layer)
	if !slices.Equal(config.RootFS.DiffIDs, []string{"sha256:" + hex.EncodeToString(sum[:])}) {
		t.Errorf("diff_ids %v", config.RootFS.DiffIDs)
	}
	files, modes := unpack(t, layer)
	program := config.Config.Entrypoint[0]
	if string(files[strings.TrimPrefix(program, "/")]) != "the loader" || modes[strings.TrimPrefix(program, "/")] != 0o755 {
		t.Errorf("the entry point %s is not the loader: %v", program, modes)
	}
	if len(files) != 4 || config.OS != "linux" || !slices.Equal(manifest[0].RepoTags, []string{"localhost/eproxy:latest"}) {
		t.Errorf("%v %v %v", modes, config.OS, manifest[0].RepoTags)
	}
}

// TestContainerfileIsReadWhole: what is not understood is an error that names its line.
func TestContainerfileIsReadWhole(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "has no FROM scratch",
		"FROM scratch":                      "copies nothing",
		"FROM debian\nCOPY a /b/":           "line 1: must begin FROM scratch",
		"COPY a /b/":                        "line 1: must begin FROM scratch",
		"FROM scratch\nRUN true":            "line 2: RUN is not understood",
		"FROM scratch\nCOPY a b":            "line 2: COPY must name",
		"FROM scratch\nCOPY --x a /b/":      "line 2: COPY must name",
		"FROM scratch\nCOPY a /b/\nCMD run": "line 3: ",
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if err := write(filepath.Join(t.TempDir(), "none"), "a", "b"); err == nil {
		t.Error("no Containerfile, and no error")
	}
}
