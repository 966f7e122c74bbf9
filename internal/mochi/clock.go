package mochi

import (
	"maps"
	"math"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// clock ends what has an end in time: sessions without a connection, messages that wait for a client, retained
// messages. The library has a loop for it that looks at every client there is, twice a second: at 100,000 idle
// devices that is a fifth of a processor. This one knows where there is something to look for, and is run in its place.
type clock struct {
	mu       sync.Mutex
	left     map[*mochi.Client]struct{} // sessions that outlive their connection, for a time
	holding  map[*mochi.Client]struct{} // clients for which messages of QoS 1 or 2 wait
	retained int64                      // when the first retained message ends, Unix time in seconds
}

// nothing is a time at which nothing ends.
const nothing = math.MaxInt64

func newClock() *clock {
	return &clock{left: make(map[*mochi.Client]struct{}), holding: make(map[*mochi.Client]struct{}), retained: nothing}
}

// leave notes a client whose session may outlive its connection.
func (c *clock) leave(cl *mochi.Client) {
	if _, ends := sessionEnd(cl); ends {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.left[cl] = struct{}{}
	}
}

// sessionEnd is when a client's session ends that has no connection, Unix time in seconds; ends is false where
// that is never, as with MQTT 3.
func sessionEnd(cl *mochi.Client) (at int64, ends bool) {
	interval, stopped := expiry(cl), cl.StopTime()
	switch {
	case cl.Properties.ProtocolVersion < 5 || interval == math.MaxUint32: // MQTT 5 section 3.1.2.11.2
		return nothing, false
	case stopped == 0: // it is just ending
		return nothing, true
	}
	return stopped + int64(interval), true
}

// hold notes a client for which a message waits.
func (c *clock) hold(cl *mochi.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holding[cl] = struct{}{}
}

// retain notes a retained message.
func (c *clock) retain(pk *packets.Packet) {
	if pk.Expiry > 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.retained = min(c.retained, pk.Expiry)
	}
}

// take returns what may have come to its end, and forgets it. current says whether a session has not been taken over.
func (c *clock) take(now int64, current func(*mochi.Client) bool) (left, holding []*mochi.Client, retained bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for cl := range c.left {
		if at, ends := sessionEnd(cl); !current(cl) || !ends || at < now {
			left = append(left, cl)
			delete(c.left, cl)
		}
	}
	holding = slices.Collect(maps.Keys(c.holding))
	clear(c.holding)
	if retained = c.retained < now; retained {
		c.retained = nothing
	}
	return left, holding, retained
}

// tick ends what has come to its end.
func (s *Server) tick(now int64) {
	left, holding, retained := s.clock.take(now, s.current)
	for _, cl := range left {
		if s.current(cl) {
			go s.expire(cl) // another connection of the client's may be in its turn
		}
	}
	for _, cl := range holding {
		cl.ClearExpiredInflights(now, s.mqtt.Options.Capabilities.MaximumMessageExpiryInterval)
		if cl.State.Inflight.Len() > 0 && s.current(cl) {
			s.clock.hold(cl)
		}
	}
	if retained {
		s.expireRetained(now)
	}
}

// current says whether a client's session is still this one.
func (s *Server) current(cl *mochi.Client) bool {
	now, ok := s.mqtt.Clients.Get(cl.ID)
	return ok && now == cl
}

// expire ends a session, if no connection has taken it over. Its subscriptions end with it.
func (s *Server) expire(cl *mochi.Client) {
	defer s.endOnPanic(cl)
	defer s.turns.Begin(cl.ID)()
	if s.current(cl) {
		s.end(cl)
	}
}

// expireRetained deletes the retained messages that have come to their end [MQTT-3.3.2-5].
func (s *Server) expireRetained(now int64) {
	for topic, pk := range s.mqtt.Topics.Retained.GetAll() {
		if pk.Expiry > 0 && pk.Expiry < now {
			s.expireTopic(topic, now)
		} else {
			s.clock.retain(&pk)
		}
	}
	atomic.StoreInt64(&s.mqtt.Info.Retained, int64(s.mqtt.Topics.Retained.Len()))
}

// expireTopic deletes the retained message of a topic, unless another has come in its place. The topic itself is left out of the library's index,
// too, which Retained.Delete does not do.
func (s *Server) expireTopic(topic string, now int64) {
	s.retaining.Lock()
	defer s.retaining.Unlock()
	if pk, ok := s.mqtt.Topics.Retained.Get(topic); ok && pk.Expiry > 0 && pk.Expiry < now {
		s.mqtt.Topics.RetainMessage(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Retain: true}, TopicName: topic})
		s.keep.unretained(topic)
	}
}

// sysInterval is the time between two updates of $SYS topics, as mosquitto's.
// Each stops all goroutines for a moment to read memory statistics.
const sysInterval = 10 * time.Second

// run runs the clock until the server ends.
func (s *Server) run() {
	second, sys := time.NewTicker(time.Second), time.NewTicker(sysInterval)
	defer second.Stop()
	defer sys.Stop()
	s.contain(func() { s.publishSys(time.Now()) })
	for {
		select {
		case <-s.ctx.Done():
			return
		case now := <-second.C:
			s.contain(func() { s.tick(now.Unix()) })
		case now := <-sys.C:
			s.contain(func() { s.publishSys(now) })
		}
	}
}

// contain runs something that is no client's; a panic in it ends nothing else.
func (s *Server) contain(do func()) {
	defer func() {
		if cause := recover(); cause != nil {
			s.fault(nil, cause)
		}
	}()
	do()
}

// publishSys publishes what the server knows of itself.
func (s *Server) publishSys(now time.Time) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	i := s.mqtt.Info
	atomic.StoreInt64(&i.MemoryAlloc, int64(m.HeapInuse))
	atomic.StoreInt64(&i.Threads, int64(runtime.NumGoroutine()))
	atomic.StoreInt64(&i.Time, now.Unix())
	atomic.StoreInt64(&i.Uptime, now.Unix()-atomic.LoadInt64(&i.Started))
	atomic.StoreInt64(&i.ClientsTotal, int64(s.mqtt.Clients.Len()))
	atomic.StoreInt64(&i.ClientsDisconnected, atomic.LoadInt64(&i.ClientsTotal)-atomic.LoadInt64(&i.ClientsConnected))
	i = i.Clone()
	s.sys("version", i.Version)
	for topic, n := range map[string]int64{
		"time": i.Time, "uptime": i.Uptime, "started": i.Started, "load/bytes/received": i.BytesReceived, "load/bytes/sent": i.BytesSent,
		"clients/connected": i.ClientsConnected, "clients/disconnected": i.ClientsDisconnected, "clients/maximum": i.ClientsMaximum, "clients/total": i.ClientsTotal,
		"packets/received": i.PacketsReceived, "packets/sent": i.PacketsSent,
		"messages/received": i.MessagesReceived, "messages/sent": i.MessagesSent, "messages/dropped": i.MessagesDropped, "messages/inflight": i.Inflight,
		"retained": i.Retained, "subscriptions": i.Subscriptions, "system/memory": i.MemoryAlloc, "system/threads": i.Threads,
	} {
		s.sys(topic, strconv.FormatInt(n, 10))
	}
}

// sys publishes a retained message below $SYS/broker.
func (s *Server) sys(topic, value string) {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Retain: true}, TopicName: mochi.SysPrefix + "/broker/" + topic, Payload: []byte(value)}
	if err := s.publish(pk, ""); err != nil {
		s.log.Debug("publish", "topic", pk.TopicName, "error", err)
	}
}
