package instances

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestResolv: instances get name servers that they can reach.
func TestResolv(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	stub := write("stub", "# of systemd-resolved\nnameserver 127.0.0.53\noptions edns0\n")
	real := write("real", "nameserver 127.0.0.1\nnameserver 192.0.2.53\nnameserver fd00::53\nsearch example.org\n")
	none := filepath.Join(dir, "none")
	for _, c := range []struct {
		files []string
		want  string
	}{
		{[]string{stub, real}, "nameserver 192.0.2.53\nsearch example.org\n"},
		{[]string{real, stub}, "nameserver 192.0.2.53\nsearch example.org\n"},
		{[]string{stub, none}, ""},
		{[]string{none}, ""},
	} {
		if got := string(resolv(c.files)); got != c.want {
			t.Errorf("%v: %q, want %q", c.files, got, c.want)
		}
	}
}

// TestListening: what is said of where a process listens.
func TestListening(t *testing.T) {
	const head = "  sl  local_address rem_address   st\n"
	line := func(address, state string) string { return "   0: " + address + " 00000000:0000 " + state + " 0\n" }
	any, loopback := line("00000000:0BB8", "0A"), line("0100007F:1F90", "0A")
	for text, want := range map[string]string{
		head:                  "it does not listen on port 8080 (PORT in its environment)",
		head + any:            "it listens on port 3000, not on 8080 (PORT in its environment)",
		head + any + any:      "it listens on port 3000, not on 8080 (PORT in its environment)",
		head + any + loopback: "it listens on 127.0.0.1:8080, which only itself can reach: it must on 0.0.0.0:8080",
		head + line("00000000000000000000000001000000:1F90", "0A"):                                    "it listens on [::1]:8080, which only itself can reach: it must on 0.0.0.0:8080",
		head + line("00000000:1F90", "01"):                                                            "it does not listen on port 8080 (PORT in its environment)",
		"short\n x y z\n" + line("zz:1F90", "0A") + line("00:1F90", "0A") + line("00000000:zz", "0A"): "it does not listen on port 8080 (PORT in its environment)",
	} {
		if got := listening(parseSockets([]byte(text)), 8080); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if !connected(parseSockets([]byte(head+line("0100007F:1F90", "01"))), 8080) {
		t.Error("a connection is not seen")
	}
	if connected(parseSockets([]byte(head+line("0100007F:1F90", "08"))), 8080) {
		t.Error("a connection that its client has closed keeps an instance awake")
	}
}

// TestOutputIsBounded: a function that writes without end costs neither memory nor log.
func TestOutputIsBounded(t *testing.T) {
	var said []string
	left := 0
	l := &lines{say: func(line string) { said = append(said, line) }, omitted: func(lines int) { left += lines }}
	_, _ = l.Write([]byte("a\r\n\nb"))
	_, _ = l.Write([]byte("c\n"))
	if got := strings.Join(said, "|"); got != "a||bc" {
		t.Errorf("lines %q", got)
	}
	for range 100 {
		_, _ = l.Write([]byte(strings.Repeat("x", 1000)))
	}
	_, _ = l.Write([]byte("\ny\n"))
	if got := said[3]; len(got) != maxLine+3 || !strings.HasSuffix(got, "x...") || cap(l.part) > 2*maxLine {
		t.Errorf("a long line: %d bytes, %d held", len(got), cap(l.part))
	}
	if got := said[4]; got != "y" {
		t.Errorf("the line behind it: %q", got)
	}
	said, l.second, l.said = nil, 0, 0
	for range 1000 {
		l.end(7)
	}
	l.end(8)
	if len(said) != maxLines+1 || left != 1000-maxLines {
		t.Errorf("%d lines said, %d left out", len(said), left)
	}
	for range maxLines + 2 { // of which one is said already
		l.end(8)
	}
	said, left = nil, 0
	l.second = -1
	_, _ = l.Write([]byte("the end"))
	if l.close(); len(said) != 1 || said[0] != "the end" || left != 3 {
		t.Errorf("at the end %q, %d left out", said, left)
	}
	l.left = 2
	if l.close(); len(said) != 1 || left != 5 {
		t.Errorf("at the end again %q, %d left out", said, left)
	}
}

// TestAddresses: each number has an address within the prefix, which is nobody else's.
func TestAddresses(t *testing.T) {
	n := network{addresses: testAddresses}
	if got := n.gateway().String(); got != "10.99.0.1" {
		t.Errorf("gateway %s", got)
	}
	if first, last := n.address(1).String(), n.address(n.capacity()).String(); first != "10.99.0.2" || last != "10.99.0.254" {
		t.Errorf("from %s to %s", first, last)
	}
}
