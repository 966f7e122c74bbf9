package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"eproxy/internal/trace"
)

// answerTrace shows messages, a line of JSON each, until the client has gone or does not read any more.
func answerTrace(w http.ResponseWriter, r *http.Request, t Tracer) {
	f, err := trace.ParseValues(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{}) // one that passes would end it
	began := false
	begin := func() error {
		began = true
		if err := c.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			return err
		}
		return c.Flush()
	}
	encoder := json.NewEncoder(w)
	err = t.Watch(r.Context(), f, begin, func(e trace.Event) error {
		if err := c.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			return err
		}
		if err := encoder.Encode(e); err != nil {
			return err
		}
		return c.Flush()
	})
	switch {
	case err == nil || began:
	case errors.Is(err, trace.ErrBusy):
		http.Error(w, err.Error(), http.StatusConflict)
	default:
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

// Trace shows messages until ctx ends, or show returns an error, which it returns. begun is called when everything from then on is
// shown.
func (c *Client) Trace(ctx context.Context, f trace.Filter, begun func(), show func(trace.Event) error) error {
	res, err := c.do(ctx, http.MethodGet, "/v1/trace?"+f.Values().Encode(), nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(res.Body, 1000))
		return fmt.Errorf("%w: %s", ErrRefused, strings.TrimSpace(string(b)))
	}
	begun()
	for d := json.NewDecoder(res.Body); ; {
		var e trace.Event
		if err := d.Decode(&e); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("%w: it has ended, or shows nothing any more", ErrNotRunning)
		}
		if err := show(e); err != nil {
			return err
		}
	}
}
