package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"eproxy/internal/config"
)

// probeTime bounds one probe.
const probeTime = 2 * time.Second

// errFailed says of a probe that the pod has answered something else than it should.
var errFailed = errors.New("its probe fails")

// probe finds out whether a pod takes connections or, if what is a path, whether it
// answers 2xx there. host is the Host of the requests of its function.
func probe(ctx context.Context, pod netip.AddrPort, what, host string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	if what == "" || what == config.ProbeTCP {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", pod.String())
		if err == nil {
			_ = c.Close()
		}
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+pod.String()+what, nil)
	if err != nil {
		return err
	}
	req.Host = host
	req.Header.Set("User-Agent", "eproxy")
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10) // so that a server sees no reset
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%w: GET %s answered %d", errFailed, what, res.StatusCode)
	}
	return nil
}
