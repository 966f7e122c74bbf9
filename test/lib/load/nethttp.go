package load

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
)

// NetHTTP makes devices that call the function with Go's own HTTP client, one
// keep-alive connection each: what a device without special care would do.
type NetHTTP struct {
	Dial    func(ctx context.Context, i int) (net.Conn, error)
	Topic   func(device int) string
	Payload int // bytes
}

// Open makes client i; a Dialer. One request is in flight at a time.
func (h NetHTTP) Open(_ context.Context, i int) (Conn, error) {
	payload := make([]byte, h.Payload)
	for i := range payload {
		payload[i] = 'a' + byte(i%26)
	}
	tr := &http.Transport{MaxIdleConnsPerHost: 1, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return h.Dial(ctx, i) }}
	return &netHTTPConn{client: &http.Client{Transport: tr}, payload: payload, topic: h.Topic(i), source: fmt.Sprintf("eproxy/dev-%d", i), done: make(chan int, ring)}, nil
}

type netHTTPConn struct {
	client        *http.Client
	payload       []byte
	topic, source string
	done          chan int
	ids           [1]int
}

// Send makes the call and leaves its number for Receive.
func (c *netHTTPConn) Send(n int) error {
	req, err := http.NewRequest(http.MethodPost, "http://temp.local/ingest", bytes.NewReader(c.payload))
	if err != nil {
		return err
	}
	req.Header.Set("ce-specversion", "1.0")
	req.Header.Set("ce-type", "mqtt.publish")
	req.Header.Set("ce-source", c.source)
	req.Header.Set("ce-subject", c.topic)
	req.Header.Set("ce-id", fmt.Sprintf("%020d", n))
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s", errResponse, resp.Status)
	}
	c.done <- n
	return nil
}

// Receive waits for the next call that is done.
func (c *netHTTPConn) Receive() ([]int, error) {
	n, ok := <-c.done
	if !ok || n < 0 {
		return nil, io.EOF
	}
	c.ids[0] = n
	return c.ids[:], nil
}

// Interrupt ends a waiting Receive.
func (c *netHTTPConn) Interrupt() { c.done <- -1 }

// Close ends the connection.
func (c *netHTTPConn) Close() error {
	c.client.CloseIdleConnections()
	return nil
}
