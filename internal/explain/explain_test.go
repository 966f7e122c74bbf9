package explain

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"eproxy/internal/broker"
	"eproxy/internal/pinned"
	"eproxy/internal/reason"
)

// usual are the facts of a message that the kernel path takes.
func usual() *Facts {
	remote := netip.MustParseAddrPort("10.0.0.9:1000")
	return &Facts{
		Message: Message{Topic: "sensors/1/temp", QoS: 1, Size: 10},
		Server: broker.Explanation{
			Client:     &broker.Client{ClientID: "c", Remote: remote.String(), Version: "5", Rights: "all", Path: "kernel"},
			MayPublish: true,
			Route:      &broker.RouteOfTopic{Filter: "sensors/#", Functions: []string{"temp"}},
		},
		Flow:     &pinned.Flow{Remote: remote, State: "open", InFlightMax: 4, RightsAll: true},
		Function: &pinned.Function{Name: "temp"},
		Pods: []pinned.Pod{{Function: "temp", Address: netip.MustParseAddrPort("10.0.1.2:80"), Concurrency: 2, Connected: 1, Idle: 1,
			State: "ready", Reason: "no redirects"}},
	}
}

// TestOutcome: each thing that decides, changed by itself, changes the path for the reason that the programs
// or the server would give.
func TestOutcome(t *testing.T) {
	for name, c := range map[string]struct {
		change    func(f *Facts)
		path, why string
	}{
		"usual":                {func(*Facts) {}, Kernel, "taken: at TC, since for XDP: no redirects"},
		"XDP":                  {func(f *Facts) { f.Pods[0].XDP = true }, Kernel, "taken: at XDP"},
		"XDP has nothing":      {func(f *Facts) { f.Pods[0].XDP, f.XDPIdle, f.Pods[0].Reason = true, true, "" }, Kernel, "taken: at TC"},
		"not connected":        {func(f *Facts) { f.Server.Client = nil }, None, "not connected"},
		"not allowed":          {func(f *Facts) { f.Server.MayPublish = false }, Refused, "not_authorized"},
		"the server's topic":   {func(f *Facts) { f.Server.Reserved = true }, Refused, "not_authorized"},
		"no route":             {func(f *Facts) { f.Server.Route = nil }, Broker, "no_route"},
		"server ends":          {func(f *Facts) { f.Server.Draining = true }, None, "about to end"},
		"programs end":         {func(f *Facts) { f.Draining = true }, Fallback, "not_open"},
		"no flow":              {func(f *Facts) { f.Flow = nil }, Fallback, "not_open"},
		"never seen":           {func(f *Facts) { f.Flow.State = "armed" }, Fallback, "not_open"},
		"stopped":              {func(f *Facts) { f.Flow.Stopped = true }, Fallback, "not_open"},
		"lost":                 {func(f *Facts) { f.Flow.Lost = true }, Fallback, "lost_track"},
		"full":                 {func(f *Facts) { f.Flow.InFlight = 4 }, Fallback, "ring_full"},
		"qos 2":                {func(f *Facts) { f.Message.QoS = 2 }, Fallback, "qos2"},
		"retain":               {func(f *Facts) { f.Message.Retain = true }, Fallback, "retain"},
		"properties":           {func(f *Facts) { f.Message.Properties = true }, Fallback, "properties"},
		"largest":              {func(f *Facts) { f.Message.Size = 1472 }, Kernel, "taken"},
		"too large":            {func(f *Facts) { f.Message.Size = 1473 }, Fallback, "too_large"},
		"long topic":           {func(f *Facts) { f.Message.Topic = strings.Repeat("a/", 65) }, Fallback, "topic_long"},
		"long level":           {func(f *Facts) { f.Message.Topic = strings.Repeat("a", 61) }, Fallback, "topic_long"},
		"longest level":        {func(f *Facts) { f.Message.Topic = strings.Repeat("a", 60) }, Kernel, "taken"},
		"two functions":        {func(f *Facts) { f.Server.Route.Functions = []string{"temp", "b"} }, Fallback, "route_fallback"},
		"also_broker":          {func(f *Facts) { f.Server.Route.AlsoBroker = true }, Kernel, "copies_full"},
		"also_broker, kept":    {func(f *Facts) { f.Server.Route.AlsoBroker, f.Server.Route.Userspace = true, "kept" }, Fallback, "route_fallback"},
		"ordered":              {func(f *Facts) { f.Server.Route.Ordered = true }, Kernel, "order_unknown"},
		"not granted":          {func(f *Facts) { f.Flow.RightsAll = false }, Fallback, "not_granted"},
		"granted":              {func(f *Facts) { f.Flow.RightsAll, f.Granted = false, true }, Kernel, "taken"},
		"other family":         {func(f *Facts) { f.Pods[0].Address = netip.MustParseAddrPort("[fd00::1]:80") }, Fallback, "family"},
		"no connection":        {func(f *Facts) { f.Pods[0].Connected, f.Pods[0].Idle = 0, 0 }, Fallback, "no_slot"},
		"none idle":            {func(f *Facts) { f.Pods[0].Idle = 0 }, Parked, "parked"},
		"others wait":          {func(f *Facts) { f.Function.Waiting = 3 }, Parked, "3 messages wait"},
		"room behind others":   {func(f *Facts) { f.Pods[0].Idle, f.Pods[0].Room, f.Pods[0].Busy = 0, 1, 1 }, Kernel, "taken"},
		"places are used up":   {func(f *Facts) { f.Pods[0].Fallback = 2 }, Parked, "parked"},
		"no pod":               {func(f *Facts) { f.Pods = nil }, Waits, "no pod"},
		"a pod that is paused": {func(f *Facts) { f.Pods, f.Left = nil, []pinned.LeftPod{{State: "paused"}} }, Waits, "no pod"},
		"a pod that is left":   {func(f *Facts) { f.Pods, f.Left = nil, []pinned.LeftPod{{State: "ready"}} }, Fallback, "route_fallback"},
	} {
		t.Run(name, func(t *testing.T) {
			f := usual()
			c.change(f)
			for _, s := range Of(f) {
				if s.Subject == "path" && (s.Result != c.path || !strings.Contains(s.Why, c.why)) {
					t.Errorf("%s, %q, want %s, %q", s.Result, s.Why, c.path, c.why)
				}
			}
		})
	}
}

// TestRefusalsFollow: what the client was refused comes last, with what can be done about it.
func TestRefusalsFollow(t *testing.T) {
	f := usual()
	f.Flow.NotTaken = "qos2"
	f.Server.Refusals = []broker.Refusal{{Time: time.Unix(60, 0), Reason: "not_authorized", Text: "no", Topic: "a\nb", Remote: "10.0.0.9:1"}}
	steps := Of(f)
	n := len(steps)
	if s := steps[n-2]; s.Subject != "not taken" || s.Result != "qos2" || s.Advice == "" || strings.HasSuffix(s.Why, ": ") {
		t.Errorf("%+v", s)
	}
	want := Step{"refusal", "not_authorized", `1970-01-01T00:01:00Z no, from 10.0.0.9:1, topic "a\nb"`, adviceOf["not_authorized"]}
	if s := steps[n-1]; s != want {
		t.Errorf("%+v, want %+v", s, want)
	}
	if steps[n-3].Subject != "path" {
		t.Errorf("%+v, want the path before", steps[n-3])
	}
}

// TestAdviceIsOfReasons: each advice is about a reason that there is; so is each that leftBy gives.
func TestAdviceIsOfReasons(t *testing.T) {
	known := map[string]bool{}
	for _, r := range reason.All {
		known[r.Name] = true
	}
	for _, r := range []string{"not_authenticated", "password_unusable", "login_busy", "not_authorized", "will_not_authorized", "will_overload",
		"response_not_authorized", "denied_client", "packet_too_large", "protocol_error"} {
		known[r] = true
	}
	for name := range adviceOf {
		if !known[name] {
			t.Errorf("there is no reason %q", name)
		}
	}
}
