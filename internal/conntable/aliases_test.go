package conntable

import (
	"strings"
	"testing"

	"eproxy/internal/abi"
	"eproxy/internal/broker"
)

// TestAliasesAreSaidOnce: the programs are told what is new to them, and that an alias stands for nothing of theirs any more.
func TestAliasesAreSaidOnce(t *testing.T) {
	f, table := tableOf(t, 1)
	d, err := table.arm(broker.ConnInfo{}, server, client(1))
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("t", abi.TopicMax)
	for _, topic := range []string{"", long + "t", "a/b", "a/b", long, long + "t", "", "a/b"} {
		d.Alias(16, topic)
	}
	var got []string
	for _, a := range f.aliases {
		if a.Conn != d.index || a.Gen != d.gen || a.Alias != 16 {
			t.Errorf("said of %+v", a)
		}
		got = append(got, string(a.Topic[:a.Len]))
	}
	if want := []string{"a/b", long, "", "a/b"}; strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("said %q, want %q", got, want)
	}
}

// TestNoMemoryForAliases: without memory the programs know no alias, and nobody asks again; once they know one, what they
// cannot be told ends the connection.
func TestNoMemoryForAliases(t *testing.T) {
	f, table := tableOf(t, 2)
	aborted := make(chan struct{})
	first, err := table.arm(broker.ConnInfo{Abort: func() { t.Error("aborted") }}, server, client(1))
	if err != nil {
		t.Fatal(err)
	}
	second, err := table.arm(broker.ConnInfo{Abort: func() { close(aborted) }}, server, client(2))
	if err != nil {
		t.Fatal(err)
	}
	second.Alias(1, "a")
	f.fails = true
	first.Alias(1, "a")
	first.Alias(2, "b")
	second.Alias(1, "b")
	<-aborted
	if len(f.aliases) != 3 {
		t.Errorf("%+v", f.aliases)
	}
}
