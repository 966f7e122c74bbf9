package conntable

import (
	"eproxy/internal/abi"
	"eproxy/internal/bpf"
)

// aliases are the topics of a connection's aliases, as the programs know them.
type aliases struct {
	topic *[abi.AliasesMax]string // of alias n at n - 1; nil: they know none
	none  bool                    // there is no memory: they get to know none
}

// Alias lets the programs know what a topic alias stands for, unless they do; broker.Graft. A topic that is too long for them is as
// none.
func (d *Device) Alias(alias uint16, topic string) {
	if len(topic) > abi.TopicMax {
		topic = ""
	}
	a := &d.aliases
	known := ""
	if a.topic != nil {
		known = a.topic[alias-1]
	}
	if topic == known || a.none {
		return
	}
	args := bpf.EproxyAliasArgs{Conn: d.index, Gen: d.gen, Alias: uint32(alias), Len: uint32(len(topic))}
	copy(args.Topic[:], topic)
	err := d.table.kernel.alias(&args)
	switch {
	case err != nil && a.topic != nil: // the programs would take its messages for those of another topic
		d.unheard(err)
		return
	case err != nil:
		a.none = true
		d.table.log.Warn("messages with topic aliases stay with the fallback", "client", d.Info.ClientID, "error", err)
		return
	case a.topic == nil:
		a.topic = new([abi.AliasesMax]string)
	}
	a.topic[alias-1] = topic
}
