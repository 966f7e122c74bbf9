package mqtt

import (
	"os"
	"regexp"
	"testing"

	"eproxy/internal/mqtt/samples"
)

func decoder() *Decoder {
	return &Decoder{MaxConnect: samples.MaxPacket, MaxPacket: samples.MaxPacket, TopicAlias: samples.MaxAlias}
}

// feed gives a Decoder a stream in pieces of a size. Returns how much may pass.
func feed(d *Decoder, stream string, size int) (int, *Error) {
	var held []byte
	passed := 0
	for len(stream) > 0 {
		n := min(size, len(stream))
		held, stream = append(held, stream[:n]...), stream[n:]
		pass, e := d.Next(held)
		held, passed = held[pass:], passed+pass
		if e != nil {
			return passed, e
		}
	}
	return passed, nil
}

// stream is a sample behind the CONNECT that it needs, and where it begins.
func stream(c samples.Sample) (string, int) {
	if c.Version == 0 {
		return c.Packet, 0
	}
	before := samples.Hello(c.Version)
	return before + c.Packet, len(before)
}

// TestEveryViolationIsFound also demands that no violation is without its sample.
func TestEveryViolationIsFound(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range samples.All {
		for _, size := range []int{1, 7, 1 << 20} {
			all, before := stream(c)
			d := decoder()
			passed, e := feed(d, all, size)
			if e == nil {
				if c.Code != 0 || passed != len(all) || !d.AtBoundary() {
					t.Errorf("%s: %d of %d bytes passed, want %#x", c.Name, passed, len(all), c.Code)
				}
				continue
			}
			seen[e.Text] = true
			if e.Code != c.Code || e.Clause != c.Clause {
				t.Errorf("%s: %v, reason code %#x; want %#x, %s", c.Name, e, e.Code, c.Code, c.Clause)
			}
			if passed != before && e != ErrAfterDisconnect {
				t.Errorf("%s: %d bytes of the packet passed", c.Name, passed-before)
			}
		}
	}
	for _, text := range violations(t) {
		if !seen[text] {
			t.Errorf("no sample with %q", text)
		}
	}
}

// violations are the texts of all in errors.go.
func violations(t *testing.T) []string {
	source, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, m := range regexp.MustCompile(`(?m)^(?:\t|var )[eE]rr\w+\s+= (?:malformed|protocolError|&Error).*"([^"]+)"[)}]$`).FindAllStringSubmatch(string(source), -1) {
		texts = append(texts, m[1])
	}
	if len(texts) < 40 {
		t.Fatalf("found %d violations only", len(texts))
	}
	return texts
}

// TestVersionOfRefusedConnect: a refused CONNECT still tells which answer its client understands.
func TestVersionOfRefusedConnect(t *testing.T) {
	for _, c := range []struct {
		stream  string
		version byte
		connack byte
	}{
		{samples.Connect(4, 3, samples.String("c")), 4, 0},
		{samples.Connect(5, 3, samples.Properties(), samples.String("c")), 5, 0},
		{samples.Connect(4, 0, samples.String("")), 4, 2},
		{samples.Connect(3, 2, samples.String("")), 3, 2},
		{samples.Packet(0x10, samples.String("MQTT"), "\x07\x02\x00\x3c", samples.String("c")), 0, 1},
		{"\x10\xff\xff\xff\x7f\x00\x04MQTT\x05\x02\x00", 5, 0},
		{"GET / HTTP/1.1\r\n", 0, 0},
	} {
		d := decoder()
		_, e := feed(d, c.stream, 1)
		if e == nil || d.Version() != c.version || e.Connack != c.connack {
			t.Errorf("%q: version %d, %+v; want version %d, CONNACK %d", c.stream, d.Version(), e, c.version, c.connack)
		}
	}
}

// TestNoAllocation: what is valid costs no memory.
func TestNoAllocation(t *testing.T) {
	for _, c := range samples.All {
		if c.Code != 0 || c.Version == 0 {
			continue
		}
		d := decoder()
		_, _ = feed(d, samples.Hello(c.Version), 1<<20)
		begun, b := *d, []byte(c.Packet)
		if n := testing.AllocsPerRun(20, func() {
			*d = begun
			_, _ = d.Next(b)
		}); n > 0 {
			t.Errorf("%s: %v allocations", c.Name, n)
		}
	}
}

// FuzzDecoder: however a stream is cut, the same passes and the same is wrong.
func FuzzDecoder(f *testing.F) {
	for _, c := range samples.All {
		all, _ := stream(c)
		f.Add([]byte(all), 3)
	}
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		if size < 1 {
			size = 1
		}
		passed, e := feed(decoder(), string(stream), len(stream)+1)
		if p, again := feed(decoder(), string(stream), size); p != passed || again != e {
			t.Fatalf("whole: %d bytes, %v; in pieces of %d: %d bytes, %v", passed, e, size, p, again)
		}
	})
}

func BenchmarkPublish(b *testing.B) {
	for name, packet := range map[string]string{
		"3.1.1": samples.Hello(4) + samples.Packet(0x32, samples.String("sensors/12/temp"), "\x00\x01", "21.5"),
		"5":     samples.Hello(5) + samples.Packet(0x32, samples.String("sensors/12/temp"), "\x00\x01", samples.Properties("\x03"+samples.String("text/plain"), "\x26"+samples.String("k")+samples.String("v")), "21.5"),
	} {
		b.Run(name, func(b *testing.B) {
			d, stream := decoder(), []byte(packet)
			begin := len(samples.Hello(4))
			if name == "5" {
				begin = len(samples.Hello(5))
			}
			_, _ = d.Next(stream[:begin])
			b.ReportAllocs()
			for b.Loop() {
				if n, e := d.Next(stream[begin:]); e != nil || n != len(stream)-begin {
					b.Fatal(n, e)
				}
			}
		})
	}
}
