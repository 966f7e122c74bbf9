package store

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const enough = 1 << 20

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, enough, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func contents(t *testing.T, s *Store) string {
	t.Helper()
	var b strings.Builder
	for k := range kinds {
		err := s.Each(k, func(key string, value []byte) error {
			fmt.Fprintf(&b, "%d %q=%s;", k, key, value)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func TestStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	s := open(t, dir)
	s.Put(Session, Key("c", ""), []byte("one"))
	s.Put(Session, Key("cc", ""), []byte("other"))
	s.Put(Message, Key("c", "1"), []byte("m"))
	s.Put(Message, Key("c", "2"), []byte("n"))
	s.Delete(Message, Key("c", "1"))
	s.Put(Retained, "c\x00", []byte("a topic's"))
	s.Sync()
	const all = `0 "c\x00"=one;0 "cc\x00"=other;2 "c\x002"=n;4 "c\x00"=a topic's;`
	if got := contents(t, s); got != all {
		t.Errorf("records are %s", got)
	}
	s.Forget("c")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	defer s.Close()
	if got, want := contents(t, s), `0 "cc\x00"=other;4 "c\x00"=a topic's;`; got != want {
		t.Errorf("records after opening again are %s, want %s", got, want)
	}
	if want := int64(len("cc\x00") + 4 + len("other") + len("c\x00") + 4 + len("a topic's")); s.Used() != want {
		t.Errorf("used: %d bytes, want %d", s.Used(), want)
	}
}

// TestLongKeys: names of any length that MQTT has are kept, apart from each other, and forgotten; nothing else waits for them in vain.
func TestLongKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	s := open(t, dir)
	long := strings.Repeat("l", 65535)
	other := long[1:] + "o"
	s.Put(Session, Key(long, ""), []byte("a"))
	s.Put(Session, Key(other, ""), []byte("b"))
	s.Put(Message, Key(long, "1"), []byte("c"))
	s.Put(Subscription, Key(long, other), []byte("d"))
	s.Put(Subscription, Key("c", long), []byte("e"))
	s.Put(Subscription, Key(long[:longest], long[:longest]), []byte("longest"))
	s.Put(Retained, long, []byte("f"))
	s.Put(Retained, other, []byte("g"))
	s.Delete(Retained, other)
	alike, _ := short(long) // as what stands for another
	s.Put(Retained, alike, []byte("h"))
	if s.Put(Retained, "", []byte("x")) {
		t.Error("a record without a key is taken")
	}
	if !s.Sync() {
		t.Fatal("not on disk")
	}
	var ranged []string
	err := s.Range(Subscription, long, func(key string, value []byte) bool {
		ranged = append(ranged, fmt.Sprint(key == Key(long, other))+" "+string(value))
		return true
	})
	if err != nil || !slices.Equal(ranged, []string{"true d"}) {
		t.Errorf("records of a client: %v, %v", ranged, err)
	}
	s.Forget(long)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	defer s.Close()
	got := strings.NewReplacer(other, "OTHER", long, "LONG", long[:longest], "LONGEST", strings.TrimPrefix(alike, digest), "ALIKE").Replace(contents(t, s))
	if want := `0 "OTHER\x00"=b;1 "c\x00LONG"=e;1 "LONGEST\x00LONGEST"=longest;4 "\xffALIKE"=h;4 "LONG"=f;`; got != want {
		t.Errorf("records are %s, want %s", got, want)
	}
}

// After tells of what was put before, and in the order in which it was asked.
func TestAfter(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "d"))
	told := make(chan string, 2*100)
	for i := range 100 {
		key := Key("c", fmt.Sprint(i))
		s.Put(Message, key, []byte("x"))
		s.After(func() { told <- key })
	}
	for i := range 100 {
		if got := <-told; got != Key("c", fmt.Sprint(i)) {
			t.Fatalf("call %d is that of %q", i, got)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFull(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "d"), 100, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Put(Retained, "t", make([]byte, 100))
	s.Sync()
	if !s.Full() {
		t.Error("not full beyond its limit")
	}
	s.Delete(Retained, "t")
	s.Sync()
	if s.Full() || s.Used() != 0 {
		t.Errorf("full when empty: %d bytes", s.Used())
	}
}

// What is damaged, another's, or in use is refused in one line that names the file, and stays as it is.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir, file string)
		want  string
	}{
		"short":     {func(t *testing.T, _, f string) { truncate(t, f, 20000) }, "damaged"},
		"empty":     {func(t *testing.T, _, f string) { write(t, f, 0, nil, true) }, "empty"},
		"nonsense":  {func(t *testing.T, _, f string) { write(t, f, 0, []byte(strings.Repeat("nonsense", 8192)), true) }, "damaged"},
		"bit":       {flip, "damaged"},
		"pages":     {func(t *testing.T, _, f string) { write(t, f, 8192, make([]byte, 40960), false) }, "damaged"},
		"open file": {func(t *testing.T, _, f string) { chmod(t, f, 0o644) }, "chmod 600"},
		"open dir":  {func(t *testing.T, d, _ string) { chmod(t, d, 0o755) }, "chmod 700"},
		"link": {func(t *testing.T, d, f string) {
			if err := os.Rename(f, f+".else"); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(f+".else", f); err != nil {
				t.Fatal(err)
			}
		}, "is no file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d")
			s := open(t, dir)
			for i := range 300 {
				s.Put(Message, Key("c", fmt.Sprint(i)), []byte(strings.Repeat("payload", 20)))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "sessions.db")
			c.spoil(t, dir, file)
			before, _ := os.ReadFile(file)
			s, err := Open(dir, enough, slog.New(slog.DiscardHandler))
			if err == nil {
				s.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q", err)
			}
			if after, _ := os.ReadFile(file); string(after) != string(before) {
				t.Error("the file was changed")
			}
		})
	}
}

func TestInUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	s := open(t, dir)
	defer s.Close()
	if _, err := Open(dir, enough, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("error %v", err)
	}
}

func flip(t *testing.T, _, file string) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := strings.LastIndex(string(b), "payloadpayload"); i > 0 && i < len(b); {
		write(t, file, int64(i), []byte{'P'}, false)
		if i = strings.LastIndex(string(b[:i]), "payloadpayload"); i < 0 {
			return
		}
	}
}

func write(t *testing.T, file string, at int64, b []byte, whole bool) {
	t.Helper()
	if whole {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, file string, n int64) {
	t.Helper()
	if err := os.Truncate(file, n); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}
