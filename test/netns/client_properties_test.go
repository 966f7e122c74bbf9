package netns

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/paho"

	"eproxy/test/lib/lab"
)

// propertiesConfig has a function with a content type of its own, and one without.
const propertiesConfig = `functions:
  - name: temp
    url: http://temp.local/ingest
    pods: ["%[1]s", "%[2]s"]
    headers: {X-Team: edge}
  - name: hum
    url: http://hum.local/ingest
    pods: ["%[1]s", "%[2]s"]
    content_type: application/cbor
routes:
  - topic: sensors/+/temp
    function: temp
  - topic: sensors/+/hum
    function: hum
`

// serveRaw serves on both pods what hands out the very bytes of each request's head, without its ce-id.
func serveRaw(t *testing.T, l *lab.Lab) <-chan string {
	t.Helper()
	heads := make(chan string, 1000)
	for _, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
		ln, err := l.Listen(pod, net.JoinHostPort(lab.PodAddr(pod, false).String(), "8080"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				t.Cleanup(func() { _ = c.Close() })
				go answerRaw(c, heads)
			}
		}()
	}
	return heads
}

func answerRaw(c net.Conn, heads chan<- string) {
	in := bufio.NewReader(c)
	for {
		var head bytes.Buffer
		q, err := http.ReadRequest(bufio.NewReader(io.TeeReader(byteReader{in}, &head)))
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, q.Body); err != nil {
			return
		}
		lines, _, _ := strings.Cut(head.String(), "\r\n\r\n")
		var kept []string
		for line := range strings.SplitSeq(lines, "\r\n") {
			if !strings.HasPrefix(line, "ce-id: ") {
				kept = append(kept, line)
			}
		}
		heads <- strings.Join(kept, "\n")
		if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"); err != nil {
			return
		}
	}
}

// byteReader hands out single bytes, so that who reads from it takes no more than it needs.
type byteReader struct{ r io.ByteReader }

func (b byteReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c, err := b.r.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = c
	return 1, nil
}

func expiry(seconds uint32) *uint32 { return &seconds }

func format(f byte) *byte { return &f }

func pairs(of ...string) (u paho.UserProperties) {
	for i := 0; i < len(of); i += 2 {
		u = append(u, paho.UserProperty{Key: of[i], Value: of[i+1]})
	}
	return u
}

// TestPropertiesSameOnAllPaths: the requests of messages with MQTT 5 properties are the same, byte by byte, on all paths; those
// that the kernel path can make it makes.
func TestPropertiesSameOnAllPaths(t *testing.T) {
	cases := []struct {
		properties paho.PublishProperties
		why        string // of the fallback; empty: the kernel path takes it
	}{
		{paho.PublishProperties{ContentType: "application/json"}, ""},
		{paho.PublishProperties{PayloadFormat: format(1)}, ""},
		{paho.PublishProperties{PayloadFormat: format(0), MessageExpiry: expiry(3600)}, ""},
		{paho.PublishProperties{ContentType: "text/csv", PayloadFormat: format(1), MessageExpiry: expiry(86400),
			User: pairs("unit", "celsius", "unit", "kelvin", "empty", "", "X-Mqtt-Qos", "7")}, ""},
		{paho.PublishProperties{User: pairs("a", "1", "b", "2", "c", "3", "d", "4", "e", "5")}, "properties_long"},
		{paho.PublishProperties{User: pairs("a", strings.Repeat("v", 300))}, "properties_long"},
		{paho.PublishProperties{User: pairs("a b", "left out")}, "property_text"},
		{paho.PublishProperties{User: pairs("a", "gr\u00fcn")}, "property_text"},
		{paho.PublishProperties{ContentType: "text/pl\u00e4in"}, "property_text"},
		{paho.PublishProperties{CorrelationData: []byte("x")}, "properties"},
	}
	want := map[string][]string{}
	for _, mode := range []string{"fallback", "xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			heads := serveRaw(t, l)
			s := start(t, l, mode, podConfig(propertiesConfig, false))
			takenSoFar := 0
			for _, function := range []string{"temp", "hum"} {
				c := paho5(t, l, "c5")
				var got []string
				taken := 0
				for i := range cases {
					before := s.counts()
					p := cases[i].properties
					if _, err := c.Publish(context.Background(), &paho.Publish{Topic: "sensors/a/" + function, QoS: 1, Payload: []byte("x"), Properties: &p}); err != nil {
						t.Fatal(err)
					}
					got = append(got, <-heads)
					if mode == "fallback" {
						continue
					}
					if why := cases[i].why; why == "" {
						taken++
					} else if n := s.counts()["tc_device_in/"+why] - before["tc_device_in/"+why]; n != 1 {
						t.Errorf("%+v: %s is counted %d times", p, why, n)
					}
				}
				if mode == "fallback" {
					want[function] = got
					continue
				}
				for i := range got {
					if got[i] != want[function][i] {
						t.Errorf("%+v: request\n%s\nof the fallback\n%s", cases[i].properties, got[i], want[function][i])
					}
				}
				takenSoFar += taken
				if counts := s.counts(); counts["xdp_device/taken"]+counts["tc_device_in/taken"] != takenSoFar {
					t.Errorf("the kernel took other messages than %d: %v", takenSoFar, counts)
				}
			}
		})
	}
}

// paho5 is a client of MQTT 5.
func paho5(t *testing.T, l *lab.Lab, id string) *paho.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	conn, err := l.Dial(ctx, lab.Dev, net.JoinHostPort(lab.NodeV4.String(), "1883"))
	if err != nil {
		t.Fatal(err)
	}
	c := paho.NewClient(paho.ClientConfig{Conn: conn})
	if _, err := c.Connect(ctx, &paho.Connect{ClientID: id, KeepAlive: 30, CleanStart: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Disconnect(&paho.Disconnect{}) })
	return c
}

const expiryConfig = `functions:
  - name: temp
    url: http://temp.local/ingest
    pods: ["%s"]
    concurrency: 1
    pipeline: 1
    retry: {attempts: 3, backoff: 20s, max_backoff: 20s}
routes:
  - topic: sensors/+/temp
    function: temp
`

func startExpiry(t *testing.T, mode string, b behaviour) (*lab.Lab, *system, *recorder) {
	t.Helper()
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, b, nil)
	return l, start(t, l, mode, fmt.Sprintf(expiryConfig, net.JoinHostPort(lab.PodAddr(lab.Pod0, false).String(), strconv.Itoa(8080)))), r
}

// TestExpiresWhileWaiting: a message whose time is up while it waits for its function is not delivered, and acknowledged.
func TestExpiresWhileWaiting(t *testing.T) {
	for _, mode := range []string{"fallback", "xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			answer := make(chan struct{})
			l, s, r := startExpiry(t, mode, func(_ int64, w http.ResponseWriter, _ *http.Request) {
				<-answer
				w.WriteHeader(http.StatusOK)
			})
			first := make(chan error, 1)
			go func() {
				_, err := paho5(t, l, "first").Publish(context.Background(), &paho.Publish{Topic: "sensors/a/temp", QoS: 1, Payload: []byte("1")})
				first <- err
			}()
			r.wait(t, 1) // its pod has no place left
			if _, err := paho5(t, l, "late").Publish(context.Background(), &paho.Publish{Topic: "sensors/b/temp", QoS: 1, Payload: []byte("2"),
				Properties: &paho.PublishProperties{MessageExpiry: expiry(1)}}); err != nil {
				t.Error(err)
			}
			close(answer)
			if err := <-first; err != nil {
				t.Error(err)
			}
			if _, err := paho5(t, l, "last").Publish(context.Background(), &paho.Publish{Topic: "sensors/c/temp", QoS: 1, Payload: []byte("3")}); err != nil {
				t.Error(err)
			}
			if got := r.wait(t, 2); len(got) != 2 || got[1].body != "3" {
				t.Errorf("the function got %v", got)
			}
			if counts := s.counts(); mode != "fallback" && counts["tc_device_in/expiry"] != 1 {
				t.Errorf("%v", counts)
			}
		})
	}
}

// TestExpiresBeforeRetry: the same of one that its function has refused before.
func TestExpiresBeforeRetry(t *testing.T) {
	for _, mode := range []string{"fallback", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l, s, r := startExpiry(t, mode, func(n int64, w http.ResponseWriter, _ *http.Request) {
				if n == 1 {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			})
			if _, err := paho5(t, l, "c5").Publish(context.Background(), &paho.Publish{Topic: "sensors/a/temp", QoS: 1, Payload: []byte("1"),
				Properties: &paho.PublishProperties{MessageExpiry: expiry(1)}}); err != nil {
				t.Error(err)
			}
			if got, _ := r.all(); len(got) != 1 {
				t.Errorf("the function got %v", got)
			}
			if counts := s.counts(); mode != "fallback" && counts["tc_device_in/taken"] != 1 {
				t.Errorf("%v", counts)
			}
		})
	}
}
