package mochi

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/broker"
	"eproxy/internal/store"
)

// restore opens the store, if the configuration says so, and takes up what is in it. Nobody is served yet.
func (s *Server) restore() error {
	p := &s.cfg.Persistence
	if p.Dir == "" {
		return nil
	}
	st, err := store.Open(p.Dir, p.Bytes, s.log)
	if err != nil {
		return err
	}
	s.keep = &keep{st, s.log.Warn, s.holder}
	s.broker.Keep(s.keep)
	for _, load := range []func(*store.Store) error{s.loadSessions, s.loadSubscriptions, s.loadMessages, s.loadReceived, s.loadRetained} {
		if err := load(st); err != nil {
			return fmt.Errorf("persistence: %w", err)
		}
	}
	s.log.Info("sessions restored", "dir", p.Dir, "sessions", s.mqtt.Clients.Len(), "subscriptions", atomic.LoadInt64(&s.mqtt.Info.Subscriptions),
		"waiting", atomic.LoadInt64(&s.mqtt.Info.Inflight), "retained", s.mqtt.Topics.Retained.Len(), "bytes", st.Used())
	return nil
}

// each decodes the records of a kind, whose keys are a client identifier and the rest.
func each[T any](st *store.Store, k store.Kind, see func(client, rest string, v *T)) error {
	return st.Each(k, func(key string, value []byte) error {
		var v T
		if err := json.Unmarshal(value, &v); err != nil {
			return fmt.Errorf("record %q: %w", key, err)
		}
		client, rest, _ := strings.Cut(key, "\x00")
		see(client, rest, &v)
		return nil
	})
}

// loadSessions makes clients of sessions, as if their connections had ended just now.
func (s *Server) loadSessions(st *store.Store) error {
	now := time.Now()
	return each(st, store.Session, func(client, _ string, r *keptSession) {
		left := r.remaining(now)
		if left == 0 {
			st.Forget(client)
			return
		}
		cl := s.mqtt.NewClient(nil, "restored", client, false)
		cl.Properties.ProtocolVersion = r.Version
		cl.Properties.Props.MaximumPacketSize = r.Largest
		if r.Version == 5 {
			cl.Properties.Props.SessionExpiryInterval, cl.Properties.Props.SessionExpiryIntervalFlag = left, true
		}
		cl.Stop(packets.ErrServerShuttingDown)
		s.mqtt.Clients.Add(cl)
		s.clock.leave(cl)
	})
}

// client is one of a record; nil: its session has ended.
func (s *Server) client(id string) *mochi.Client {
	cl, _ := s.mqtt.Clients.Get(id)
	return cl
}

func (s *Server) loadSubscriptions(st *store.Store) error {
	return each(st, store.Subscription, func(client, filter string, sub *packets.Subscription) {
		cl := s.client(client)
		if cl == nil {
			return
		}
		if s.mqtt.Topics.Subscribe(client, *sub) {
			atomic.AddInt64(&s.mqtt.Info.Subscriptions, 1)
		}
		cl.State.Subscriptions.Add(filter, *sub)
	})
}

func (s *Server) loadMessages(st *store.Store) error {
	return each(st, store.Message, func(client, _ string, m *keptMessage) {
		pk := m.packet()
		pk.FixedHeader.Dup = pk.FixedHeader.Type == packets.Publish // it may have been sent
		if cl := s.client(client); cl != nil && cl.State.Inflight.Set(pk) {
			atomic.AddInt64(&s.mqtt.Info.Inflight, 1)
			s.clock.hold(cl)
		}
	})
}

func (s *Server) loadReceived(st *store.Store) error {
	return each(st, store.Received, func(client, rest string, r *broker.Received) {
		if id, err := strconv.ParseUint(rest, 10, 16); err == nil && s.client(client) != nil {
			s.broker.Restore(client, uint16(id), *r)
		}
	})
}

func (s *Server) loadRetained(st *store.Store) error {
	now := time.Now().Unix()
	return st.Each(store.Retained, func(name string, value []byte) error {
		var m keptMessage
		if err := json.Unmarshal(value, &m); err != nil {
			return fmt.Errorf("retained message of topic %q: %w", name, err)
		}
		pk := m.packet()
		if pk.Expiry > 0 && pk.Expiry < now {
			st.Delete(store.Retained, name)
			return nil
		}
		s.clock.retain(&pk)
		s.mqtt.Topics.RetainMessage(pk)
		return nil
	})
}
