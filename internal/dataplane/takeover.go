package dataplane

import (
	"bytes"
	"net/url"
	"strings"
	"time"

	"eproxy/internal/bpf"
	"eproxy/internal/broker"
	"eproxy/internal/config"
	"eproxy/internal/delivery"
	"eproxy/internal/pool"
	"eproxy/internal/request"
)

// takeOver finishes a message that the programs handed to userspace: with the
// response that userspace read, or by further attempts with the very bytes in
// the slot's buffer, of which so many are spent. The acknowledgement is written on the device's socket.
func (p *Plane) takeOver(s *slot, args bpf.EproxySlotArgs, resp *pool.Response, cause error, spent int) {
	req := p.requestOf(args)
	d := p.conns.get(args.Device, args.DeviceGen)
	p.mu.Lock()
	route, _ := p.counts.routes.Labels(args.Counter)
	engine, rec := p.engine, p.recorder
	p.mu.Unlock()
	if engine == nil {
		p.finishing.Add(-1)
		return
	}
	fn := s.pod.fn.Load()
	finish := func(outcome string, o delivery.Outcome) {
		rec.Message(route.Filter, fn.Name, args.Qos, outcome, monotonic()-time.Duration(args.TakenNs))
		if d != nil {
			d.info.Complete(args.PacketId, broker.Hold(args.Hold), o)
		}
		p.finishing.Add(-1)
	}
	status := 0
	if resp != nil {
		status = resp.Status
	}
	rec.Request(fn.Name, s.pod.id.addr.String(), status)
	if resp != nil && resp.Status >= 200 && resp.Status < 300 {
		o := delivery.Outcome{Acked: true, Status: resp.Status, Response: resp, Function: fn.Name}
		finish(o.Name(), o)
		return
	}
	m := messageOf(fn, req)
	m.QoS = args.Qos
	m.PacketID = args.PacketId
	if d != nil {
		m.ClientID = d.info.ClientID
		m.Username = d.info.Username
		m.Version = d.info.Version
	}
	if cause == nil {
		cause = pool.NewStatusError(resp)
	}
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		arrived := time.Now().Add(time.Duration(args.TakenNs) - monotonic())
		o := engine.DeliverRequest(p.ctx, fn, req, m, arrived, spent, cause)
		finish(o.Name(), o)
	}()
}

// messageOf recovers what a dead letter needs from the request's bytes: the
// client may be gone by now.
func messageOf(fn *config.Function, req []byte) *request.Message {
	m := &request.Message{}
	head, body, _ := bytes.Cut(req, []byte("\r\n\r\n"))
	m.Payload = body
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		name, encoded, ok := bytes.Cut(line, []byte(": "))
		if !ok {
			continue
		}
		value, err := url.PathUnescape(string(encoded))
		if err != nil {
			continue
		}
		switch string(name) {
		case "ce-subject":
			m.Topic = value
		case "ce-source":
			m.ClientID, _ = strings.CutPrefix(value, request.Source(fn)+"/")
		case "X-Mqtt-Username":
			m.Username = value
		}
	}
	return m
}
