// Command adaptor is the baseline between a broker and a function: it subscribes to a filter and makes an
// HTTP request of each message, as one would write it in Go with Eclipse's MQTT client and net/http.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// The adaptor's own limits.
const (
	quiesce  = 250 // milliseconds that the client may take to disconnect
	patience = 30 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "adaptor:", err)
		os.Exit(1)
	}
}

// run adapts until ctx ends.
func run(ctx context.Context) error {
	broker := flag.String("broker", "tcp://127.0.0.1:1883", "`URL` of the broker")
	filter := flag.String("filter", "#", "topic `FILTER`")
	url := flag.String("url", "", "`URL` of the function")
	connections := flag.Int("connections", 64, "to the function at most `N`")
	flag.Parse()
	a := adaptor{url: *url, client: &http.Client{
		Timeout:   patience,
		Transport: &http.Transport{MaxConnsPerHost: *connections, MaxIdleConnsPerHost: *connections},
	}}
	failed := make(chan error, 1)
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(*broker).SetClientID("adaptor").
		SetOrderMatters(false). // each message has a goroutine of its own, and is acknowledged when its handler returns
		SetAutoReconnect(false).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { failed <- err }))
	if err := wait(c.Connect()); err != nil {
		return fmt.Errorf("connect to %s: %w", *broker, err)
	}
	defer c.Disconnect(quiesce)
	if err := wait(c.Subscribe(*filter, 1, a.handle)); err != nil {
		return fmt.Errorf("subscribe to %s: %w", *filter, err)
	}
	fmt.Fprintln(os.Stderr, "msg=serving")
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return fmt.Errorf("broker: %w", err)
	}
}

// wait waits for what the client does.
func wait(t mqtt.Token) error {
	if !t.WaitTimeout(patience) {
		return errors.New("no answer")
	}
	return t.Error()
}

// adaptor makes requests.
type adaptor struct {
	url    string
	client *http.Client
}

// handle makes a request of a message, in CloudEvents' binary mode.
func (a adaptor) handle(_ mqtt.Client, m mqtt.Message) {
	if err := a.post(m); err != nil {
		fmt.Fprintln(os.Stderr, "adaptor:", err)
	}
}

func (a adaptor) post(m mqtt.Message) error {
	req, err := http.NewRequest(http.MethodPost, a.url, bytes.NewReader(m.Payload()))
	if err != nil {
		return err
	}
	req.Header.Set("ce-specversion", "1.0")
	req.Header.Set("ce-type", "mqtt.publish")
	req.Header.Set("ce-source", "adaptor")
	req.Header.Set("ce-id", fmt.Sprint(m.MessageID()))
	req.Header.Set("ce-subject", m.Topic())
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s", a.url, resp.Status)
	}
	return nil
}
