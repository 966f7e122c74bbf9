package datapath

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"eproxy/internal/bpf"
	"eproxy/internal/pindir"
)

// Farewell is how long connections have to end by themselves before what
// translates them is detached.
const Farewell = 500 * time.Millisecond

// endConnections sees to it that no socket outlives the programs that translate
// its connection: left alone it would go on in sequence numbers that its peer
// does not know, for minutes. What has not closed in time is reset, on both
// ends (SOCK_DESTROY sends an RST, which the programs still translate). Kernels
// without CONFIG_INET_DIAG_DESTROY leave such sockets to their timers.
func endConnections(dir string) {
	flows, err := ebpf.LoadPinnedMap(pindir.Path(dir, "maps", "flows"), &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return // nothing was loaded, or not far enough to translate anything
	}
	defer flows.Close()
	var open []bpf.EproxyTuple
	var t bpf.EproxyTuple
	var index uint32
	for it := flows.Iterate(); it.Next(&t, &index); {
		open = append(open, t)
	}
	deadline := time.Now().Add(Farewell)
	for {
		left := open[:0]
		for _, t := range open {
			if lives(t) {
				left = append(left, t)
			}
		}
		open = left
		if len(open) == 0 || time.Now().After(deadline) {
			break
		}
		time.Sleep(10 * time.Millisecond) // the kernel notifies nobody when an orphan ends
	}
	for _, t := range open {
		_, _ = diag(nl.SOCK_DESTROY, unix.NLM_F_ACK, t)
	}
}

// lives says whether there is a socket of this connection whose peer may still
// send or wait for something.
func lives(t bpf.EproxyTuple) bool {
	const timeWait, finished = 6, 7 // include/net/tcp_states.h
	msgs, err := diag(nl.SOCK_DIAG_BY_FAMILY, 0, t)
	if err != nil || len(msgs) == 0 || len(msgs[0]) < 2 {
		return !errors.Is(err, unix.ENOENT) && err == nil
	}
	state := msgs[0][1] // struct inet_diag_msg
	return state != timeWait && state != finished
}

// diag asks the kernel about one socket (struct inet_diag_req_v2,
// include/uapi/linux/inet_diag.h).
func diag(kind, flags int, t bpf.EproxyTuple) ([][]byte, error) {
	req := make([]byte, 56)
	req[0], req[1] = unix.AF_INET6, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(req[4:], ^uint32(0)) // all states
	id := req[8:]
	local, remote := t.Local[:], t.Remote[:]
	if t.Local[0] == 0 && t.Local[1] == 0 && t.Local[2] == binary.NativeEndian.Uint32([]byte{0, 0, 0xff, 0xff}) {
		req[0] = unix.AF_INET
		local, remote = local[3:], remote[3:]
	}
	binary.NativeEndian.PutUint16(id[0:], t.LocalPort)
	binary.NativeEndian.PutUint16(id[2:], t.RemotePort)
	for i := range local {
		binary.NativeEndian.PutUint32(id[4+4*i:], local[i])
		binary.NativeEndian.PutUint32(id[20+4*i:], remote[i])
	}
	for i := 40; i < 48; i++ {
		id[i] = 0xff // INET_DIAG_NOCOOKIE
	}
	r := nl.NewNetlinkRequest(kind, flags)
	r.AddRawData(req)
	return r.Execute(unix.NETLINK_INET_DIAG, 0)
}
