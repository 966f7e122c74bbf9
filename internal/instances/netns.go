package instances

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// networkOf opens the network namespace of a zygote's fork. It has to be one that was made in a user namespace of the loader's, where nobody
// administers networks: whoever makes a user namespace has all privileges there.
func networkOf(pid int) (netns.NsHandle, error) {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return ns, fmt.Errorf("network namespace: %w", err)
	}
	owner, err := ownerOf(int(ns))
	if err == nil && owner != uint32(os.Geteuid()) { //nolint:gosec // user IDs have 32 bits
		err = fmt.Errorf("its user namespace is one of user %d", owner)
	}
	if err != nil {
		return ns, errors.Join(fmt.Errorf("network namespace: %w", err), ns.Close())
	}
	return ns, nil
}

// ownerOf is the user who has made the user namespace that a namespace is in (ioctl_nsfs(2)).
func ownerOf(ns int) (uint32, error) {
	users, err := unix.IoctlRetInt(ns, unix.NS_GET_USERNS)
	if err != nil {
		return 0, os.NewSyscallError("NS_GET_USERNS", err)
	}
	defer unix.Close(users)
	uid, err := unix.IoctlGetUint32(users, unix.NS_GET_OWNER_UID)
	return uid, os.NewSyscallError("NS_GET_OWNER_UID", err)
}
