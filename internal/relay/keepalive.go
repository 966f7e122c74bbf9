package relay

import (
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// pings are the PINGREQs that the broker has yet to answer. It answers in order, and one of the server's own is sent only
// while none of the client's is open.
type pings struct {
	mu   sync.Mutex
	open int // of the client's
	own  bool
	sent time.Time // the own one
}

// client notes a PINGREQ of the client's.
func (p *pings) client() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open++
}

// begin says whether one of the server's own may be sent now; it must be, then.
func (p *pings) begin(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.own || p.open > 0 {
		return false
	}
	p.own, p.sent = true, now
	return true
}

// answered takes a PINGRESP, and says whether it is for the server's own.
func (p *pings) answered() (own bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.own {
		p.own = false
		return true
	}
	p.open = max(p.open-1, 0)
	return false
}

// since is when the server's own one that is open was sent; zero: there is none.
func (p *pings) since() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.own {
		return time.Time{}
	}
	return p.sent
}

// watch begins to watch the keep-alive of both ends.
func (c *conn) watch() {
	c.heard.Store(time.Now().UnixNano())
	c.upstream.last.Store(time.Now().UnixNano())
	if c.keepAlive > 0 {
		c.timer.Store(time.AfterFunc(c.keepAlive*9/10, c.look))
	}
}

// look ends the connection of a client that has sent nothing for one and a half times its keep-alive [MQTT-3.1.2-22], on
// either path, and lets the broker know of one that has sent only what was taken: else that would end it.
func (c *conn) look() {
	defer c.contain()
	if c.closed.Load() {
		return
	}
	now, heard := time.Now(), time.Unix(0, c.heard.Load())
	if kernel := c.session.Load().LastReceive(); kernel.After(heard) {
		heard = kernel
	}
	written := c.upstream.written()
	switch since := c.pings.since(); {
	case now.Sub(heard) >= c.keepAlive*3/2:
		c.server.log.Debug("client ended: it was silent for longer than its keep-alive", "client", c.session.Load().ClientID)
		c.end(codeKeepAlive, "keep alive timeout")
		return
	case !since.IsZero() && now.Sub(since) > max(c.keepAlive, deafTimeout):
		c.end(codeShuttingDown, "the broker does not answer")
		return
	case heard.After(written) && now.Sub(written) >= c.keepAlive*9/10:
		c.ping(now)
	}
	next := written.Add(c.keepAlive * 9 / 10).Sub(now)
	if next <= 0 {
		next = c.keepAlive / 8
	}
	t := c.timer.Load() // nil only if it took longer to be stored than to pass
	if t == nil {
		return
	}
	if t.Reset(next); c.closed.Load() {
		t.Stop()
	}
}

// ping sends a PINGREQ of the server's own. While the client is inside of a packet there is no place for one.
func (c *conn) ping(now time.Time) {
	if !c.upstream.mu.TryLock() {
		return
	}
	if !c.pings.begin(now) {
		c.upstream.mu.Unlock()
		return
	}
	go func() { // it may wait for the broker
		defer c.upstream.mu.Unlock()
		_ = c.upstream.put([]byte{packets.Pingreq << 4, 0})
	}()
}
