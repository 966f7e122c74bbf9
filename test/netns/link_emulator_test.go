package netns

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/link"
)

// TestEmulatedLinkLosesWhatItReports: captures at both ends of an emulated link
// differ by the packets that it says it lost, and by no others; and a second run with the seed
// loses of the streams what the first lost.
func TestEmulatedLinkLosesWhatItReports(t *testing.T) {
	l, k := newLinked(t)
	p := both(link.Params{Delay: 2 * time.Millisecond, Jitter: time.Millisecond, Loss: 0.05, Reorder: 0.02, Hold: 3 * time.Millisecond})
	seed := seedOf(t)
	first, _ := lossesOf(t, l, k, seed, p)
	if len(first) < 5 {
		t.Fatalf("only %d packets lost: %v", len(first), first)
	}
	second, sent := lossesOf(t, l, k, seed, p)
	// How a stream is cut, what is sent again and when it is acknowledged is a matter of
	// timing. Of segments that begin at the same places the first transmissions must have met the same.
	compared := 0
	for key := range first {
		if key.Kind == link.Data && key.Repetition == 0 && sent[placeName(key.Direction, key.Kind, key.Offset)] > 0 {
			compared++
			if second[key] == 0 {
				t.Errorf("%+v was lost the first time, not the second", key)
			}
		}
	}
	t.Logf("of %d packets lost in the first run %d are comparable", len(first), compared)
	if compared == 0 {
		t.Error("no packet is comparable")
	}
}

// lossesOf sends a stream both ways over the link, checks its account of what it lost against captures
// at its ends, and returns it, with how many packets were at each place.
func lossesOf(t *testing.T, l *lab.Lab, k *link.Link, seed uint64, p [2]link.Params) (lost map[link.Key]int, sent map[string]int) {
	t.Helper()
	atDevice, stopDevice := startCapture(t, l, lab.Dev, "eth0", "--immediate-mode")
	defer stopDevice()
	atNode, stopNode := startCapture(t, l, lab.Node, "eth0", "--immediate-mode")
	defer stopNode()
	lost = make(map[link.Key]int)
	var mu sync.Mutex
	k.Begin(seed, p)
	k.OnLost(func(key link.Key) {
		mu.Lock()
		defer mu.Unlock()
		lost[key]++
	})
	echo(t, l)
	until(t, "the link is empty", k.Idle)
	// A capture is complete some time after the link has carried the last packet.
	var more map[string]int
	t.Cleanup(func() {
		if len(more) > 0 {
			t.Logf("packets more at one end than passed and reported lost: %v", more)
		}
	})
	until(t, "the captures show what is reported", func() bool {
		mu.Lock()
		defer mu.Unlock()
		device, node := segments(t, atDevice), segments(t, atNode)
		more = difference(device, node, lost)
		sent = device
		maps.Copy(sent, node) // what one end lacks the other sent
		return len(more) == 0
	})
	for _, d := range []link.Direction{uplink, downlink} {
		if c := k.Counts(d); c.Long > 0 || c.Overflow > 0 {
			t.Errorf("direction %d: %+v", d, c)
		}
	}
	return maps.Clone(lost), sent
}

// difference is how many packets more were at a place at the sending end than at the receiving one
// and lost, where it is not none.
func difference(device, node map[string]int, lost map[link.Key]int) map[string]int {
	more := make(map[string]int)
	for s, n := range device {
		more[s] += n
	}
	for s, n := range node {
		more[s] -= n
	}
	for key, n := range lost {
		more[placeName(key.Direction, key.Kind, key.Offset)] += map[link.Direction]int{uplink: -n, downlink: n}[key.Direction]
	}
	maps.DeleteFunc(more, func(_ string, n int) bool { return n == 0 })
	return more
}

// echo sends messages, two at a time under way, to the node, which returns them, and then aborts the
// connection, so that nothing is sent again.
func echo(t *testing.T, l *lab.Lab) {
	t.Helper()
	const messages, size = 300, 400
	ln, err := l.Listen(lab.Node, net.JoinHostPort(lab.NodeV4.String(), "7"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, size)
		for err == nil {
			if _, err = io.ReadFull(c, b); err == nil {
				_, err = c.Write(b)
			}
		}
	}()
	c, err := l.Dial(context.Background(), lab.Dev, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	for n := range messages + 1 {
		if n < messages {
			_, err = c.Write(b)
		}
		if err == nil && n > 0 {
			_, err = io.ReadFull(c, b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	_ = c.(*net.TCPConn).SetLinger(0)
	c.Close()
	<-ended
}

func placeName(d link.Direction, kind link.Kind, offset uint32) string {
	return fmt.Sprintf("direction %d kind %d offset %d", d, kind, offset)
}

// segments counts the segments in a capture by their place.
func segments(t *testing.T, file string) map[string]int {
	t.Helper()
	out, err := exec.Command("tshark", "-n", "-r", file, "-T", "fields", "-e", "ip.src", "-e", "tcp.seq", "-e", "tcp.ack", "-e", "tcp.len", "-e", "tcp.flags.syn", "-e", "tcp.flags.reset", "-Y", "tcp").Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	count := make(map[string]int)
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) != 6 {
			t.Fatalf("tshark: %q", line)
		}
		d := uplink
		if f[0] == lab.NodeV4.String() {
			d = downlink
		}
		kind, offset := link.Ack, f[2]
		switch {
		case f[4] != "0" || f[5] != "0":
			kind = link.Setup
		case f[3] != "0":
			kind, offset = link.Data, f[1]
		}
		n, err := strconv.ParseUint(offset, 10, 32)
		if err != nil {
			t.Fatalf("tshark: %q", line)
		}
		count[placeName(d, kind, uint32(n))]++
	}
	return count
}
