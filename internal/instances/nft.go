package instances

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
)

// nftPatience is how long the kernel may take for an answer. One without nf_tables gives none to a batch but the error
// for its beginning, and the library waits for the others.
const nftPatience = 5 * time.Second

// openRules opens nftables.
func openRules() (*nftables.Conn, error) {
	c, err := nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		return c.SetReadDeadline(time.Now().Add(nftPatience))
	}))
	return c, rulesError(err)
}

// rulesError is an error of nftables, as users read it.
func rulesError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("nftables: no answer within %s: this kernel lacks nf_tables, modprobe nf_tables says why", nftPatience)
	}
	return fmt.Errorf("nftables: %w", err)
}
