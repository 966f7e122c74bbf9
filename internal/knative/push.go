package knative

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/gorilla/websocket"
)

// Times of the connection to the autoscaler. It says nothing by itself, so pings find out whether it is
// still there, also after hours without a message.
const (
	dialTimeout  = 5 * time.Second
	writeTimeout = time.Second
	pingEvery    = 10 * time.Second
	pongWithin   = 25 * time.Second
	redialMin    = 100 * time.Millisecond
	redialMax    = 5 * time.Second
	// waiting is how many messages wait while one is written.
	waiting = 16
	// maxRead is how much the autoscaler may send at a time: it sends nothing.
	maxRead = 4096
)

// Pusher sends Stats to the autoscaler over a WebSocket, as activators do.
type Pusher struct {
	url   string
	log   *slog.Logger
	sends chan []byte
	said  bool // that it does not answer
}

// NewPusher makes one that sends to a ws or wss URL. It connects when it is run.
func NewPusher(url string, log *slog.Logger) *Pusher {
	return &Pusher{url: url, log: log, sends: make(chan []byte, waiting)}
}

// Push sends a WireStatMessages, without waiting. What cannot be sent now is dropped: the
// autoscaler takes everything for the load of the moment that it comes at.
func (p *Pusher) Push(message []byte) {
	select {
	case p.sends <- message:
	default:
	}
}

// Run keeps the connection up until ctx ends.
func (p *Pusher) Run(ctx context.Context) {
	wait := redialMin
	for ctx.Err() == nil {
		began := time.Now()
		err := p.serve(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > redialMax {
			wait = redialMin
		}
		if !p.said {
			p.said = true
			p.log.Warn("Knative's autoscaler is not told of the load", "autoscaler", p.url, "error", err)
		}
		p.discard(ctx, wait)
		wait = min(2*wait, redialMax)
	}
}

// discard drops what would be sent for a while.
func (p *Pusher) discard(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.sends:
		case <-t.C:
			return
		}
	}
}

// serve connects once, and sends until that fails.
func (p *Pusher) serve(ctx context.Context) error {
	d := websocket.Dialer{HandshakeTimeout: dialTimeout}
	c, r, err := d.DialContext(ctx, p.url, nil)
	if r != nil && r.Body != nil {
		_ = r.Body.Close()
	}
	if err != nil {
		if r != nil {
			return errors.Join(err, errors.New(r.Status))
		}
		return err
	}
	defer c.Close()
	if p.said {
		p.said = false
		p.log.Info("Knative's autoscaler is told of the load again", "autoscaler", p.url)
	}
	ended := make(chan error, 1)
	go func() { ended <- read(c) }()
	return p.send(ctx, c, ended)
}

// read answers what the autoscaler's WebSocket asks, until it is gone.
func read(c *websocket.Conn) error {
	c.SetReadLimit(maxRead)
	_ = c.SetReadDeadline(time.Now().Add(pongWithin))
	c.SetPongHandler(func(string) error { return c.SetReadDeadline(time.Now().Add(pongWithin)) })
	for {
		if _, _, err := c.NextReader(); err != nil {
			return err
		}
	}
}

// send writes what is pushed, and pings.
func (p *Pusher) send(ctx context.Context, c *websocket.Conn, ended <-chan error) error {
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			return err
		case m := <-p.sends:
			_ = c.SetWriteDeadline(time.Now().Add(writeTimeout))
			err = c.WriteMessage(websocket.BinaryMessage, m)
		case <-ping.C:
			err = c.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeTimeout))
		}
		if err != nil {
			return err
		}
	}
}
