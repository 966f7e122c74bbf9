// Package mochi is the MQTT server of eproxy: the library mochi-mqtt behind a
// strict decoder, as a broker.Frontend. It knows connections, packets and
// subscriptions; what becomes of a client or of a message it asks the broker.
package mochi

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/broker"
	"eproxy/internal/codec"
	"eproxy/internal/config"
	"eproxy/internal/lograte"
	"eproxy/internal/openfiles"
	"eproxy/internal/request"
	"eproxy/internal/turns"
)

// Server is the library's server with eproxy's listeners, connections and hook.
type Server struct {
	broker    *broker.Server
	cfg       *config.Config
	log       *slog.Logger
	often     *lograte.Logger
	mqtt      *mqtt.Server
	listening sync.Mutex
	listeners []*listener     // guarded by listening
	serving   context.Context // of Serve, by listening; nil: it has not been called
	turns     turns.Turns
	numbering numbering
	clock     *clock
	retaining sync.Mutex      // held while a retained message is replaced, in memory and on disk
	keep      *keep           // nil: nothing outlives the program
	ctx       context.Context // of connections that have not said CONNECT yet
	cancel    context.CancelFunc
	live      live
	places    *openfiles.Room
	stall     time.Duration // writeStall, less in tests
	begin     time.Duration // connectTimeout, less in tests
	rest      time.Duration // restTime, less in tests
	closing   time.Duration // closeTimeout, less in tests
	outgoing  int           // OutgoingMax, less in tests
}

var _ broker.Frontend = (*Server)(nil)

// readAhead is how many bytes the library reads ahead of what it looks at, at least; the connection has a buffer of its own (see gate).
const readAhead = 16

// closeTimeout is how long Close waits for connections whose sockets are closed.
const closeTimeout = 5 * time.Second

// New opens the listeners of the broker's configuration.
func New(b *broker.Server) (broker.Frontend, error) {
	s := &Server{broker: b, stall: writeStall, begin: connectTimeout, rest: restTime, closing: closeTimeout, outgoing: OutgoingMax, clock: newClock(), cfg: b.Config(), log: b.Logger(), often: lograte.New(b.Logger())}
	var err error
	if s.places, err = openfiles.For(s.cfg, s.log); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	caps := mqtt.NewDefaultServerCapabilities()
	caps.MaximumPacketSize = uint32(s.cfg.Limits.MaxPacketSize)
	caps.ReceiveMaximum = broker.ReceiveMaximum
	caps.TopicAliasMaximum = topicAliases
	caps.Compatibilities.NoInheritedPropertiesOnAck = true // those of a PUBLISH say nothing about its acknowledgement
	caps.MaximumMessageExpiryInterval = 0                  // none: what is retained stays until it is replaced, what waits for a client as long as its session
	caps.MaximumClientWritesPending = 0                    // see outgoing
	s.mqtt = mqtt.New(&mqtt.Options{Capabilities: caps, Logger: quiet(s.log), ClientNetReadBufferSize: readAhead})
	if err := s.mqtt.AddHook(&hook{s: s}, nil); err != nil {
		return nil, fmt.Errorf("add hook: %w", err)
	}
	if err := s.restore(); err != nil {
		s.Close()
		return nil, err
	}
	for i := range s.cfg.Listeners {
		nl, err := listen(s.ctx, &s.cfg.Listeners[i], s)
		if err == nil {
			s.listeners = append(s.listeners, nl)
			err = s.mqtt.AddListener(nl)
		}
		if err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// Serve serves until ctx ends. The library's own Serve would run its loop, too: see clock.
func (s *Server) Serve(ctx context.Context) error {
	s.listening.Lock()
	s.serving = ctx
	for _, l := range s.listeners {
		s.serveListener(l)
	}
	s.listening.Unlock()
	go s.run()
	<-ctx.Done()
	return nil
}

// Addresses are those that it listens on.
func (s *Server) Addresses() []net.Addr {
	s.listening.Lock()
	defer s.listening.Unlock()
	var out []net.Addr
	for _, l := range s.listeners {
		out = append(out, l.net.Addr())
	}
	return out
}

// Publish hands a message to the subscribers, and keeps it if it is to be retained.
func (s *Server) Publish(m *request.Message) error { return s.hand(m, "") }

// Copy is Publish of what a client has published.
func (s *Server) Copy(m *request.Message) error { return s.hand(m, m.ClientID) }

// Message reads a PUBLISH packet.
func (s *Server) Message(version byte, packet []byte) (*request.Message, error) {
	return codec.Publish(version, packet)
}

func (s *Server) hand(m *request.Message, by string) error {
	if m.QoS > 0 && s.keep.full() {
		return errFull
	}
	err := s.publish(codec.Packet(m), by)
	if err == nil { // it counts as received
		atomic.AddInt64(&s.mqtt.Info.PacketsReceived, 1)
		atomic.AddInt64(&s.mqtt.Info.MessagesReceived, 1)
	}
	return err
}

// Retain keeps a message for later subscribers.
func (s *Server) Retain(m *request.Message) {
	pk := codec.Packet(m)
	pk.FixedHeader.Retain = true
	pk.Created = time.Now().Unix()
	if m.MessageExpiry > 0 {
		pk.Expiry = pk.Created + int64(m.MessageExpiry)
	}
	s.retain(&pk)
}

// Close ends all connections, all at the same time: those of clients with the
// reason, then whatever is left, among them those whose session is just beginning.
// The library would end one after the other, and wait for those that it does not
// know yet. It waits for what each still does, such as to keep its session on disk, for closeTimeout at most: then
// the disk is closed, and its caller takes away what the programs share with it.
func (s *Server) Close() {
	s.cancel()
	over := s.live.shut()
	var wg sync.WaitGroup
	for _, cl := range s.mqtt.Clients.GetAll() {
		wg.Go(func() {
			defer s.endOnPanic(cl)
			_ = s.mqtt.DisconnectClient(cl, packets.ErrServerShuttingDown)
		})
	}
	wg.Wait() // none takes longer than refuseTimeout
	for _, c := range s.live.all() {
		_ = c.Close()
	}
	_ = s.mqtt.Close()
	select {
	case <-over:
	case <-time.After(s.closing):
		s.log.Warn("connections have not ended", "connections", len(s.live.all()))
	}
	if err := s.keep.close(); err != nil {
		s.log.Error("sessions not closed", "error", err)
	}
	s.often.Close()
}

// quiet keeps the library's own chatter out of the log.
func quiet(l *slog.Logger) *slog.Logger {
	return slog.New(levelFloor{l.Handler()})
}

// levelFloor passes errors only.
type levelFloor struct{ slog.Handler }

func (h levelFloor) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelError && h.Handler.Enabled(ctx, l)
}
