package delivery

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"eproxy/internal/urlerr"
)

const (
	// postTimeout is how long a URL may take for one dead letter.
	postTimeout = 10 * time.Second
	// postsAtOnce is how many connections there are to one host for dead letters; the rest waits, in the places of its
	// clients.
	postsAtOnce = 8
)

// poster sends dead letters to URLs.
type poster struct {
	once   sync.Once
	client *http.Client
}

// send posts a letter; only 2xx says that it has arrived.
func (p *poster) send(to *url.URL, letter []byte) error {
	p.once.Do(func() {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.Proxy, t.MaxConnsPerHost, t.MaxIdleConnsPerHost = nil, postsAtOnce, postsAtOnce
		p.client = &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	})
	ctx, cancel := context.WithTimeout(context.Background(), postTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(letter))
	if err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := p.client.Do(req)
	if err != nil {
		return fmt.Errorf("dead letter: %w", urlerr.Short(err))
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 4<<10) // so that the connection can be used again
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("dead letter: %s answered %d", urlerr.Name(to), res.StatusCode)
	}
	return nil
}
