package gateway

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"eproxy/test/lib/address"
)

// kind makes a gateway with two connections to one pod and says where it listens.
type kind func(t *testing.T, pod string) (run func(context.Context) error, address string)

const functionURL = "http://temp.local/ingest"

func kinds() map[string]kind {
	return map[string]kind{
		"loop": func(t *testing.T, pod string) (func(context.Context) error, string) {
			address := address.Free(t)
			l, err := NewLoop(address, []string{pod}, 2, functionURL)
			if err != nil {
				t.Fatal(err)
			}
			return l.Run, address
		},
		"plain": func(t *testing.T, pod string) (func(context.Context) error, string) {
			p, err := NewPlain("127.0.0.1:0", []string{pod}, 2, functionURL)
			if err != nil {
				t.Fatal(err)
			}
			return p.Run, p.listener.Addr().String()
		},
	}
}

func packet(id uint16, topic, payload string) []byte {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(topic)))
	body = append(body, topic...)
	first := byte(0x30)
	if id > 0 {
		first = 0x32
		body = binary.BigEndian.AppendUint16(body, id)
	}
	body = append(body, payload...)
	b := []byte{first}
	n := len(body)
	for ; n > 127; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(append(b, byte(n)), body...)
}

// publishing sends what a device sends, a PINGREQ among it, in pieces of odd lengths, and returns the identifiers of
// its PUBACKs.
func publishing(t *testing.T, address, id string, packets []byte, pubacks int) []uint16 {
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	connect := append([]byte{0x10, byte(12 + len(id)), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, byte(len(id))}, id...)
	go func() {
		for b, n := append(connect, packets...), 1; len(b) > 0; n = n%1400 + 7 {
			piece := min(n, len(b))
			if _, err := c.Write(b[:piece]); err != nil {
				t.Error(err)
				return
			}
			b = b[piece:]
		}
	}()
	var got []uint16
	r := bufio.NewReader(c)
	for begun, pinged := false, false; ; {
		if begun && pinged && len(got) == pubacks {
			return got
		}
		var head [4]byte
		_, err := io.ReadFull(r, head[:2])
		if err == nil && head[1] > 0 {
			_, err = io.ReadFull(r, head[2:2+head[1]%3])
		}
		switch {
		case err != nil:
			t.Errorf("%s: after %d PUBACKs: %v", id, len(got), err)
			return got
		case head[0] == 0x20:
			begun = true
		case head[0] == 0xd0:
			pinged = true
		default:
			got = append(got, binary.BigEndian.Uint16(head[2:]))
		}
	}
}

// TestEachMessageOnce: whatever the pieces, each message reaches the function once with its headers, and each of
// QoS 1 is acknowledged, in order.
func TestEachMessageOnce(t *testing.T) {
	const devices, messages = 7, 300
	for name, start := range kinds() {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			got := map[string]int{}
			pod := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				mu.Lock()
				got[fmt.Sprintf("%s %s %s %s %s %s", r.Host, r.URL.Path, r.Header.Get("ce-source"), r.Header.Get("ce-subject"), r.Header.Get("X-Mqtt-Qos"), body)]++
				got["id "+r.Header.Get("ce-id")]++
				mu.Unlock()
				_, _ = io.WriteString(w, "ok\n")
			}))
			defer pod.Close()
			run, address := start(t, strings.TrimPrefix(pod.URL, "http://"))
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- run(ctx) }()
			want := map[string]bool{}
			var wg sync.WaitGroup
			for i := range devices {
				id := fmt.Sprintf("dev-%d", i)
				var packets []byte
				for n := range messages {
					topic, payload := fmt.Sprintf("sensors/%d/a b", i), fmt.Sprintf("%d %s", n, strings.Repeat("x", n*7%500))
					qos, level := uint16(n+1), "1"
					if n%5 == 0 {
						qos, level = 0, ""
					}
					packets = append(packets, packet(qos, topic, payload)...)
					want[fmt.Sprintf("temp.local /ingest eproxy/%s sensors/%d/a%%20b %s %s", id, i, level, payload)] = true
				}
				packets = append(packets, 0xc0, 0)
				wg.Go(func() {
					last := uint16(1)
					for _, got := range publishing(t, address, id, packets, messages*4/5) {
						if got <= last {
							t.Errorf("PUBACK of %d after %d", got, last)
						}
						last = got
					}
				})
			}
			wg.Wait()
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			for m, n := range got {
				if n != 1 || !want[m] && !strings.HasPrefix(m, "id ") {
					t.Errorf("%q came %d times", m, n)
				}
			}
			if len(got) != 2*len(want) {
				t.Errorf("%d of %d messages came", len(got)/2, len(want))
			}
		})
	}
}

// TestRefusalIsNotAcknowledged: what is not answered 2xx gets no PUBACK, and the gateway says so.
func TestRefusalIsNotAcknowledged(t *testing.T) {
	for name, start := range kinds() {
		t.Run(name, func(t *testing.T) {
			pod := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }))
			defer pod.Close()
			run, address := start(t, strings.TrimPrefix(pod.URL, "http://"))
			ended := make(chan error, 1)
			go func() { ended <- run(t.Context()) }()
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			connect := []byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 1, 'd'}
			if _, err := c.Write(append(connect, packet(1, "a", "b")...)); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; !errors.Is(err, errRefused) {
				t.Errorf("the gateway ended with %v", err)
			}
			if got, _ := io.ReadAll(c); len(got) != len(connack) { // closed or reset
				t.Errorf("the device got % x", got)
			}
		})
	}
}
