package bpf

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"eproxy/internal/abi"
	"eproxy/internal/request"
)

// alias is a Topic Alias property.
func alias(n byte) []byte { return []byte{0x23, 0, n} }

// learnt: the server has read what an alias of the rig's device stands for.
func (r *rig) learnt(args EproxyAliasArgs, topic string) bool {
	r.t.Helper()
	args.Conn, args.Gen, args.Len = rigDevice, max(args.Gen, 1), uint32(len(topic))
	copy(args.Topic[:], topic)
	if _, err := r.objs.AliasControl.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args}); err != nil {
		r.t.Fatal(err)
	}
	return args.Ok == 1
}

// aliases is a rig whose device speaks MQTT 5, and whose stream the server has read from its next byte on.
func aliases(t testing.TB) *rig {
	r := newRig(t, false)
	r.properties(propertiesFunction(t, ""))
	r.device(func(d *EproxyDevice) { d.Anchor = devISS })
	return r
}

// sent is a PUBLISH of these properties; topic may be empty.
func sent(topic string, properties ...byte) []byte {
	return publish5(&request.Message{Topic: topic, QoS: 1, PacketID: 7, Payload: []byte("21.5")}, properties)
}

// TestAliasSameBytes: the request of a message is that of its topic, whether it comes with it, with an alias of it, or with both.
func TestAliasSameBytes(t *testing.T) {
	for _, topic := range []string{"sensors/a/temp", "sensors/\u00e4 %\"/temp", "sensors/12345678901234567890123456789012345678901/temp",
		"sensors/" + strings.Repeat("x", 60) + "/temp", "sensors/aaa/temp", "sensors/aaaa/temp", "sensors/aaaaa/temp"} {
		for _, hook := range []string{"xdp", "tc"} {
			for name, with := range map[string]string{"alone": "", "beside it": topic} {
				t.Run(fmt.Sprintf("%s/%s/%d", hook, name, len(topic)), func(t *testing.T) {
					r := aliases(t)
					if !r.learnt(EproxyAliasArgs{Alias: 16}, topic) {
						t.Fatal("not learnt")
					}
					m := &request.Message{ClientID: "dev-1", Topic: topic, QoS: 1, PacketID: 7, Payload: []byte("21.5"), ContentType: "text/csv"}
					want := request.Build(nil, propertiesFunction(t, ""), m, "0123456789ab00000001")
					pub := sent(with, append(alias(16), propertiesOf(m)...)...)
					prog, h, taken := r.takeProgram(hook)
					ret, out := r.run(prog, r.fromDevice(devISS, "PA", pub))
					if hook == "xdp" && len(want) > len(pub)+216 {
						if r.reason(h, EproxyReasonREASON_HEADROOM) != 1 {
							t.Errorf("verdict %d, counters %v; want it left to TC", ret, r.allReasons())
						}
						return
					}
					if ret != taken {
						t.Fatalf("verdict %d, counters %v", ret, r.allReasons())
					}
					if got := checkSegment(t, out).Payload; !bytes.Equal(got, want) {
						t.Errorf("request\n%q\nwant\n%q", got, want)
					}
				})
			}
		}
	}
}

// TestAliasIsCertain: an alias counts only as long as nothing is on its way to the server that may change it.
func TestAliasIsCertain(t *testing.T) {
	const topic = "sensors/a/temp"
	ping, plain := []byte{0xc0, 0}, sent("other/topic")
	fresh := func(r *rig) { r.learnt(EproxyAliasArgs{Alias: 1}, topic) }
	// pass has segments pass to the server, one behind the other, and says where they end.
	pass := func(r *rig, segments ...[]byte) (end uint32) {
		for _, b := range segments {
			if ret, _ := r.run(r.objs.TcDeviceIn, r.fromDevice(devISS+end, "PA", b)); ret != tcOK {
				r.t.Fatalf("%x: verdict %d, counters %v", b, ret, r.allReasons())
			}
			end += uint32(len(b))
		}
		return end
	}
	changed := sent("sensors/b/temp", alias(1)...)
	for name, c := range map[string]struct {
		before func(r *rig) uint32
		pub    []byte
		taken  bool
	}{
		"known":                   {func(r *rig) uint32 { fresh(r); return 0 }, sent("", alias(1)...), true},
		"unknown":                 {func(r *rig) uint32 { return 0 }, sent("", alias(1)...), false},
		"another one is known":    {func(r *rig) uint32 { fresh(r); return 0 }, sent("", alias(2)...), false},
		"of another life":         {func(r *rig) uint32 { r.learnt(EproxyAliasArgs{Alias: 1, Gen: 2}, topic); return 0 }, sent("", alias(1)...), false},
		"forgotten":               {func(r *rig) uint32 { fresh(r); r.learnt(EproxyAliasArgs{Alias: 1}, ""); return 0 }, sent("", alias(1)...), false},
		"with its topic":          {func(r *rig) uint32 { fresh(r); return 0 }, sent(topic, alias(1)...), true},
		"with another topic":      {func(r *rig) uint32 { fresh(r); return 0 }, sent("sensors/b/temp", alias(1)...), false},
		"with a shorter topic":    {func(r *rig) uint32 { fresh(r); return 0 }, sent("sensors/a/tem", alias(1)...), false},
		"with a longer topic":     {func(r *rig) uint32 { fresh(r); return 0 }, sent("sensors/a/tempo", alias(1)...), false},
		"behind PINGREQ":          {func(r *rig) uint32 { fresh(r); return pass(r, ping) }, sent("", alias(1)...), true},
		"behind an unknown alias": {func(r *rig) uint32 { fresh(r); return pass(r, sent("", alias(2)...)) }, sent("", alias(1)...), true},
		"behind a topic":          {func(r *rig) uint32 { fresh(r); return pass(r, plain) }, sent("", alias(1)...), false},
		"behind a change":         {func(r *rig) uint32 { fresh(r); return pass(r, changed) }, sent("", alias(1)...), false},
		"with its topic, behind a change": {func(r *rig) uint32 { fresh(r); return pass(r, changed) },
			sent(topic, alias(1)...), false},
		"behind a change in the midst of a segment": {func(r *rig) uint32 {
			fresh(r)
			return pass(r, bytes.Join([][]byte{ping, sent("", alias(2)...), changed, ping, ping}, nil))
		}, sent("", alias(1)...), false},
		"behind a change in two segments": {func(r *rig) uint32 { fresh(r); return pass(r, changed[:9], changed[9:]) }, sent("", alias(1)...), false},
		"behind a change whose header is cut": {func(r *rig) uint32 { fresh(r); return pass(r, append(ping, changed[:1]...), changed[1:]) },
			sent("", alias(1)...), false},
		"behind a change that is cut in front of its topic": {func(r *rig) uint32 { fresh(r); return pass(r, append(ping, changed[:3]...), changed[3:]) },
			sent("", alias(1)...), false},
		"behind a change of QoS 2": {func(r *rig) uint32 { fresh(r); return pass(r, append([]byte{0x34}, changed[1:]...)) }, sent("", alias(1)...), false},
		"the change has been read": {func(r *rig) uint32 {
			n := pass(r, changed)
			fresh(r)
			r.boundary(t, uint64(n))
			return n
		}, sent("", alias(1)...), true},
		"all up to the change has been read": {func(r *rig) uint32 {
			fresh(r)
			n := pass(r, plain, changed)
			r.boundary(t, uint64(len(plain)))
			return n
		}, sent("", alias(1)...), false},
		"more without a topic has come since": {func(r *rig) uint32 {
			n := pass(r, changed, sent("", alias(3)...), ping)
			fresh(r)
			r.boundary(t, uint64(len(changed)))
			return n
		}, sent("", alias(1)...), true},
	} {
		for _, hook := range []string{"xdp", "tc"} {
			t.Run(hook+"/"+name, func(t *testing.T) {
				r := aliases(t)
				at := c.before(r)
				prog, h, taken := r.takeProgram(hook)
				before := r.reason(h, EproxyReasonREASON_ALIAS)
				ret, out := r.run(prog, r.fromDevice(devISS+at, "PA", c.pub))
				if (ret == taken) != c.taken || !c.taken && r.reason(h, EproxyReasonREASON_ALIAS) != before+1 {
					t.Fatalf("verdict %d, counters %v", ret, r.allReasons())
				}
				if c.taken && !strings.Contains(string(checkSegment(t, out).Payload), "\r\nce-subject: "+topic+"\r\n") {
					t.Errorf("%q", checkSegment(t, out).Payload)
				}
			})
		}
	}
}

// TestAliasIsJudged: behind an alias a client may publish to what it may publish to, now.
func TestAliasIsJudged(t *testing.T) {
	const topic = "sensors/a/temp"
	grant := func(r *rig, rights uint32) {
		key := EproxyGrantKey{Conn: rigDevice, Gen: 1, Rights: rights, Len: uint32(len(topic))}
		copy(key.Topic[:], topic)
		r.put(r.objs.Grants, &key, uint32(1))
	}
	for name, c := range map[string]struct {
		change func(r *rig)
		why    EproxyReason
	}{
		"granted":          {func(r *rig) { grant(r, 4) }, EproxyReasonREASON_TAKEN},
		"not granted":      {func(*rig) {}, EproxyReasonREASON_NOT_GRANTED},
		"rights have gone": {func(r *rig) { grant(r, 4); r.control(EproxyDeviceOpDEVICE_OP_RIGHTS, 6) }, EproxyReasonREASON_NOT_GRANTED},
		"no route":         {func(r *rig) { grant(r, 4); r.learnt(EproxyAliasArgs{Alias: 1}, "sensors/a/other") }, EproxyReasonREASON_NO_ROUTE},
		"stopped":          {func(r *rig) { grant(r, 4); r.control(EproxyDeviceOpDEVICE_OP_STOP, 0) }, EproxyReasonREASON_NOT_OPEN},
	} {
		for _, hook := range []string{"xdp", "tc"} {
			t.Run(hook+"/"+name, func(t *testing.T) {
				r := aliases(t)
				r.device(func(d *EproxyDevice) { d.Rights = 4 })
				r.learnt(EproxyAliasArgs{Alias: 1}, topic)
				c.change(r)
				prog, h, _ := r.takeProgram(hook)
				ret, _ := r.run(prog, r.fromDevice(devISS, "PA", sent("", alias(1)...)))
				if r.reason(h, c.why) != 1 {
					t.Errorf("verdict %d, counters %v", ret, r.allReasons())
				}
			})
		}
	}
}

// TestAliasControlRefuses: what names no alias, no client or too long a topic changes nothing.
func TestAliasControlRefuses(t *testing.T) {
	r := aliases(t)
	for _, args := range []EproxyAliasArgs{{}, {Alias: abi.AliasesMax + 1}, {Alias: 1, Gen: 2}} {
		if r.learnt(args, "a") {
			t.Errorf("%+v was done", args)
		}
	}
	for _, args := range []EproxyAliasArgs{{Conn: rigDevice, Gen: 1, Alias: 1, Len: abi.TopicMax + 1}, {Conn: rigSlot, Gen: 1, Alias: 1, Len: 1}, {Conn: 1 << 20, Gen: 1, Alias: 1}} {
		if _, err := r.objs.AliasControl.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args}); err != nil || args.Ok != 0 {
			t.Errorf("%+v: %v", args, err)
		}
	}
	if d := r.readDevice(); d.Aliases != 0 {
		t.Errorf("aliases %#x", d.Aliases)
	}
}
