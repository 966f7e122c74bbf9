package instances

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"eproxy/internal/config"
)

// TestForkOfAnother: a process that says it is a zygote's fork has to be one: it would be put into a group, have an interface, be killed.
func TestForkOfAnother(t *testing.T) {
	c, theirs, err := channel()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	defer theirs.Close()
	b := &birth{c, &instance{run: &config.Run{Start: time.Minute}}, nil, nil}
	z := &zygote{space: "pid:[1]"}
	if _, err := theirs.Write([]byte("{}")); err != nil { // as which the kernel names this process
		t.Fatal(err)
	}
	if h, err := b.step(z.keeps); err == nil || !strings.Contains(err.Error(), "another PID namespace") {
		t.Errorf("%+v, %v", h, err)
	}
	if z.space, err = pidNamespace(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.Write([]byte("{}")); err != nil {
		t.Fatal(err)
	}
	h, err := b.step(z.keeps)
	if err != nil || h.pid != os.Getpid() {
		t.Fatalf("%+v, %v", h, err)
	}
	h.fd.Close()
}

// TestAdoptedOnce: a child of a keeper is one instance's.
func TestAdoptedOnce(t *testing.T) {
	z := &zygote{children: make(map[int]*child)}
	c, err := z.adopt(7)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.adopt(7); err == nil {
		t.Error("it is adopted twice")
	}
	z.forget(7, c)
	if _, err := z.adopt(7); err != nil {
		t.Error(err)
	}
}

// TestLastWords: what a process has said before it ended is heard, also if it has not listened.
func TestLastWords(t *testing.T) {
	c, theirs, err := channel()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("unread")); err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.Write([]byte("no")); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	if said, _, err := receive(c); string(said) != "no" || err != nil {
		t.Errorf("%q, %v", said, err)
	}
	if _, _, err := receive(c); !errors.Is(err, io.EOF) {
		t.Errorf("%v at the end", err)
	}
}
