package broker

import (
	"time"

	"eproxy/internal/config"
	"eproxy/internal/delivery"
	"eproxy/internal/pool"
	"eproxy/internal/request"
	"eproxy/internal/topic"
)

// Publish judges a message that a client has published, and delivers it if it is
// routed. It returns true if the message is an ordinary one, which the frontend
// gives to the subscribers and acknowledges; otherwise it is settled here.
func (s *Server) Publish(x *Session, m *request.Message) (ordinary bool) {
	x.stamp(m)
	x.settleCopies(s.ctx)
	ok, over, version, r := s.judged(x, m.Topic)
	switch {
	case over:
		s.refused("session_over")
		s.log.Debug("message behind the end of its session", "client", x.ClientID, "topic", m.Topic)
		return false
	case topic.Reserved(m.Topic): // bridges tell of themselves there
		s.Refused("reserved_topic", "message to a topic of the server's own dropped", x.Remote, "client", x.ClientID, "topic", m.Topic)
		s.drop(x, m)
		return false
	case !ok:
		s.Refused("not_authorized", "client may not publish to this topic", x.Remote, "client", x.ClientID, "topic", m.Topic)
		s.refuse(x, m)
		return false
	}
	route := x.route(r, m.Topic)
	if route == nil {
		return true
	}
	if !x.routes.Load() {
		x.routes.Store(true)
	}
	if s.drained.Load() {
		return false // unacknowledged: the client sends it again
	}
	x.granted(m.Topic, version)
	s.deliver(x, m, route)
	return false
}

// Routed says whether a topic is one of a route's, now: such a message is never an ordinary one.
func (s *Server) Routed(name string) bool { return s.rules.Load().route(name) != nil }

// judged is mayPublish, with the rules that are in force along with those rights:
// a message never meets the rights of one configuration and the routes of another.
func (s *Server) judged(x *Session, topic string) (ok, over bool, version uint32, r *rules) {
	for {
		r = s.rules.Load()
		if ok, over, version = x.mayPublish(topic); s.rules.Load() == r {
			return ok, over, version, r
		}
	}
}

// refuse says no to a client: MQTT 5 has a reason code for it, MQTT 3.1.1 can only
// disconnect (section 3.3.5); a message of QoS 0 is dropped.
func (s *Server) refuse(x *Session, m *request.Message) {
	switch {
	case m.QoS == 0:
	case x.Version < 5:
		x.end(CodeNotAuthorized, "not authorized to publish to this topic")
	default:
		s.acknowledge(x, m.PacketID, m.QoS, delivery.Outcome{ReasonCode: CodeNotAuthorized}, nil)
	}
}

// drop acknowledges a message that goes nowhere; MQTT 5 says so.
func (s *Server) drop(x *Session, m *request.Message) {
	code := byte(CodeSuccess)
	if x.Version >= 5 {
		code = CodeNotAuthorized
	}
	if m.QoS > 0 {
		s.acknowledge(x, m.PacketID, m.QoS, delivery.Outcome{Acked: true, ReasonCode: code}, nil)
	}
}

// enter is how everything else than a client's PUBLISH becomes a message: what the
// client may not publish itself is not published for it, and what is routed goes
// to its function, like any other. way names the entrance in counters and log. It
// returns when the message is delivered, or was not.
func (s *Server) enter(id Identity, m *request.Message, way string) {
	id.stamp(m)
	r := s.rules.Load()
	if !r.rights(id).mayPublish(m.Topic) || topic.ValidateName(m.Topic) != nil || topic.Reserved(m.Topic) {
		s.Refused(way+"_not_authorized", "not published: the client may not publish to this topic", id.Remote,
			"client", id.ClientID, "topic", m.Topic, "by", way)
		return
	}
	route := r.route(m.Topic)
	if route == nil || route.AlsoBroker {
		s.toSubscribers(m, s.front.Publish)
	} else if m.Retain {
		s.front.Retain(m)
	}
	if route == nil {
		return
	}
	began := time.Now()
	o := s.opts.Engine.Deliver(s.ctx, route, m)
	s.record(route, m, o, time.Since(began))
}

// toSubscribers gives subscribers their copy.
func (s *Server) toSubscribers(m *request.Message, publish func(*request.Message) error) {
	if err := publish(m); err != nil {
		s.log.Warn("publish to subscribers", "topic", m.Topic, "error", err)
	}
}

// respond publishes a function's response to the Response Topic (MQTT 5 section
// 4.10), if the client that asked for it may publish there. Where that topic is
// routed, too, the message keeps its client's places until the second function has
// answered: one PUBLISH is never more than one message in flight.
func (s *Server) respond(x *Session, m *request.Message, o delivery.Outcome) {
	if m.ResponseTopic == "" || o.Response == nil || !o.Acked {
		return
	}
	s.enter(x.Identity, &request.Message{
		Topic: m.ResponseTopic, Payload: o.Response.Body, Version: 5,
		CorrelationData: m.CorrelationData, ContentType: o.Response.Header.Get("Content-Type"),
	}, "response")
}

// deliver brings a routed message to its functions, in the background as soon as
// the client has a place for it in their queues. A client that has none left is not
// read from until one ends: the rest waits in its own connection.
func (s *Server) deliver(x *Session, m *request.Message, route *config.Route) {
	p, first, done := s.pending.begin(x, m, s.opts.Engine.NextID)
	if !first {
		s.refused("repeated")
		if done != nil {
			s.acknowledge(x, m.PacketID, m.QoS, delivery.Outcome{Acked: true, ReasonCode: done.Code}, nil)
		}
		return
	}
	s.copy(x, p, m, route)
	var l *place
	if route.AlsoBroker {
		x.ordering.Store(true)
	}
	if route.Ordered {
		x.ordering.Store(true)
		l = s.lines.join(x.ClientID, route)
	}
	d := x.queued.Begin(s.ctx, route, m, l.first())
	// It may have waited for long: what has ended meanwhile must not be outrun.
	if ok, over, _ := x.mayPublish(m.Topic); !ok || over {
		defer s.lines.leave(l)
		defer d.Release()
		s.abandon(p, d, x, m, route)
		return
	}
	f := &flight{server: s, session: x, pending: p, delivery: d, message: m, route: route, place: l}
	if !d.Start(x.queued.Batch(), f) {
		go f.finish()
	}
}

// copy gives subscribers their copy of a routed message; what is kept of one of QoS 2 says that they have it.
func (s *Server) copy(x *Session, p *pending, m *request.Message, route *config.Route) {
	if m.QoS < 2 || !x.kept() {
		s.give(p, m, route)
		return
	}
	s.keeper.Together(func() {
		s.give(p, m, route)
		s.keeper.Received(x.ClientID, m.PacketID, Received{EventID: m.EventID})
	})
}

// give gives subscribers their copy, unless they have had it.
func (s *Server) give(p *pending, m *request.Message, route *config.Route) {
	switch {
	case p.again:
	case route.AlsoBroker:
		s.toSubscribers(m, s.front.Copy)
	case m.Retain:
		s.front.Retain(m)
	}
}

// flight is a routed message on its way.
type flight struct {
	server   *Server
	session  *Session
	pending  *pending
	delivery *delivery.Delivery
	message  *request.Message
	route    *config.Route
	place    *place // nil: its route is not ordered
	left     bool
}

// finish delivers the message and acknowledges it.
func (f *flight) finish() {
	s := f.server
	defer s.lines.leave(f.place)
	defer f.delivery.Release()
	s.finish(f.pending, f.delivery, f.session, f.message, f.route)
}

// Ended acknowledges the message; delivery.Ender.
func (f *flight) Ended(o delivery.Outcome, b *pool.Batch) {
	s, m := f.server, f.message
	b.Hold(&s.pending.open) // its acknowledgement is still to be written
	s.record(f.route, m, o, time.Since(f.delivery.Arrived))
	if to := f.leave(o); to != nil && m.QoS > 0 {
		s.acknowledge(to, m.PacketID, m.QoS, o, b)
	}
}

// leave ends the message, once, and says where its acknowledgement goes; nil: nowhere.
func (f *flight) leave(o delivery.Outcome) *Session {
	if f.left {
		return nil
	}
	f.left = true
	f.delivery.Release()
	f.server.lines.leave(f.place)
	return f.server.pending.end(f.pending, f.message.PacketID, o)
}

// Contain, deferred, ends the client's session, and the message, if the goroutine panics;
// delivery.Ender.
func (f *flight) Contain() {
	if cause := recover(); cause != nil {
		go f.server.contained(f.message.ClientID, cause) // it may wait for the client
		f.leave(delivery.Outcome{Interrupted: true})
	}
}

// Go runs what has to wait; delivery.Ender.
func (f *flight) Go(run func()) {
	go func() {
		defer f.Contain()
		run()
	}()
}

// abandon ends a message whose session is over, or that its client may not publish any
// more, and answers for it: by its outcome, if it has ended while it waited. Who has
// repeated it since on another connection would wait there for its acknowledgement, and
// is disconnected, so that it sends it again.
func (s *Server) abandon(p *pending, d *delivery.Delivery, x *Session, m *request.Message, route *config.Route) {
	o := d.Abandon()
	s.record(route, m, o, time.Since(d.Arrived))
	to := s.pending.end(p, m.PacketID, o)
	switch {
	case to == nil || m.QoS == 0 || s.ctx.Err() != nil:
	case !o.Interrupted:
		s.acknowledge(to, m.PacketID, m.QoS, o, nil)
	case to != x:
		to.end(CodeUnspecified, "message not delivered to its function")
	case !x.Over():
		s.refuse(x, m)
	}
}

// finish delivers a message of a session and acknowledges it to the one that has
// taken over since, if there is one.
func (s *Server) finish(p *pending, d *delivery.Delivery, x *Session, m *request.Message, route *config.Route) {
	s.pending.open.Add(1) // until the response has been published
	defer s.pending.open.Add(-1)
	ended := false
	defer func() {
		if !ended {
			s.pending.end(p, m.PacketID, delivery.Outcome{Interrupted: true})
		}
	}()
	defer s.contain(m.ClientID)
	if m.QoS == 2 && x.kept() {
		s.keeper.Settled() // its ce-id: a crash must not give it another one
	}
	o := d.Run()
	s.record(route, m, o, time.Since(d.Arrived))
	ended = true
	if to := s.pending.end(p, m.PacketID, o); to != nil && m.QoS > 0 {
		s.acknowledge(to, m.PacketID, m.QoS, o, nil)
	}
	s.respond(x, m, o)
}
