package lab

import (
	"bytes"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands of SIOCETHTOOL (include/uapi/linux/ethtool.h).
const (
	ethtoolSTXCSUM  = 0x17
	ethtoolSTSO     = 0x1f
	ethtoolSGSO     = 0x24
	ethtoolGGRO     = 0x2b
	ethtoolSGRO     = 0x2c
	ethtoolGSTRINGS = 0x1b
	ethtoolGSTATS   = 0x1d
	siocEthtool     = 0x8946
)

// Names of statistics: ETH_SS_STATS, and how long each is.
const (
	statNames  = 1
	statLength = 32
	statLimit  = 1024
)

type ethtoolValue struct{ cmd, data uint32 }

// setFeature switches an offload of an interface in the thread's namespace.
func setFeature(ifname string, cmd uint32, on bool) error {
	v := ethtoolValue{cmd: cmd}
	if on {
		v.data = 1
	}
	return ethtool(ifname, unsafe.Pointer(&v))
}

// SetGRO switches the merging of received segments of an interface in the thread's
// namespace.
func SetGRO(ifname string, on bool) error { return setFeature(ifname, ethtoolSGRO, on) }

// GRO says whether received segments of an interface in the thread's namespace are
// merged.
func GRO(ifname string) (bool, error) {
	v := ethtoolValue{cmd: ethtoolGGRO}
	err := ethtool(ifname, unsafe.Pointer(&v))
	return v.data != 0, err
}

// ethtool runs a command on an interface in the thread's namespace.
func ethtool(ifname string, command unsafe.Pointer) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var req struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		pad  [16]byte
	}
	copy(req.name[:], ifname)
	req.data = command
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), siocEthtool, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return os.NewSyscallError("ethtool "+ifname, errno)
	}
	return nil
}

// Statistics are what an interface's driver counts, by name.
func (l *Lab) Statistics(r Role, ifname string) (map[string]uint64, error) {
	out := make(map[string]uint64)
	err := l.Do(r, func() error {
		names := struct {
			cmd, set, n uint32
			names       [statLimit][statLength]byte
		}{cmd: ethtoolGSTRINGS, set: statNames}
		if err := ethtool(ifname, unsafe.Pointer(&names)); err != nil {
			return err
		}
		values := struct {
			cmd, n uint32
			values [statLimit]uint64
		}{cmd: ethtoolGSTATS}
		if err := ethtool(ifname, unsafe.Pointer(&values)); err != nil {
			return err
		}
		for i := range min(names.n, values.n, statLimit) {
			name, _, _ := bytes.Cut(names.names[i][:], []byte{0})
			out[string(name)] = values.values[i]
		}
		return nil
	})
	return out, err
}
