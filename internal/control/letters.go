package control

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"eproxy/internal/delivery"
)

// Letters are the messages that a loader keeps on disk: dead letters in files, and what is in spools.
type Letters interface {
	EachSpool(tell func(delivery.SpoolStat))
	EachLetter(function string, each func(*delivery.Letter) bool) (unreadable int, err error)
	Replay(ctx context.Context, function string) (delivery.Replayed, error)
	Purge(function string) (int, error)
}

const (
	// replayTimeout is for how long letters are delivered in one request: somewhat less than a change may take.
	replayTimeout = changeTimeout - 20*time.Second
	// maxLetters is how many letters are shown at most.
	maxLetters = 10_000
	// maxShown is about how many bytes of letters are shown at most: they are held in memory.
	maxShown = 16 << 20
)

// Listed are letters of a function, the oldest first.
type Listed struct {
	Letters    []Letter `json:"letters"`
	Unreadable int      `json:"unreadable"` // lines of the file that are no letters, as far as it was read
	More       bool     `json:"more"`       // than one request can show
}

// Letter is a dead letter without its payload, and without what came with that by MQTT 5.
type Letter struct {
	delivery.Letter
	Bytes int `json:"bytes"` // of the payload
}

// list reads letters of a function, at most limit.
func list(l Letters, function string, limit int) (Listed, error) {
	out, size := Listed{Letters: []Letter{}}, 0
	unreadable, err := l.EachLetter(function, func(x *delivery.Letter) bool {
		shown := Letter{*x, len(x.Payload)}
		shown.Payload, shown.UserProperties, shown.CorrelationData = nil, nil, nil
		size += 500 + len(x.Client) + len(x.Username) + len(x.Topic) + len(x.Error) + len(x.ContentType) + len(x.ResponseTopic)
		if size > maxShown && len(out.Letters) > 0 || len(out.Letters) == maxLetters {
			out.More = true
			return false
		}
		out.Letters = append(out.Letters, shown)
		return len(out.Letters) < limit
	})
	out.Unreadable = unreadable
	return out, err
}

// handleLetters answers what is asked of dead letters.
func handleLetters(mux *http.ServeMux, l Letters) {
	answer := func(w http.ResponseWriter, out any, err error) {
		if err != nil {
			line, _, _ := strings.Cut(err.Error(), "\n")
			http.Error(w, line, http.StatusConflict)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out)
	}
	mux.HandleFunc("GET /v1/spools", func(w http.ResponseWriter, _ *http.Request) {
		out := make(map[string]delivery.SpoolStat)
		l.EachSpool(func(s delivery.SpoolStat) { out[s.Function] = s })
		answer(w, out, nil)
	})
	mux.HandleFunc("GET /v1/deadletters", func(w http.ResponseWriter, r *http.Request) {
		limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
		if err != nil || limit < 1 {
			limit = maxLetters
		}
		allow(w, changeTimeout) // files may be long
		out, err := list(l, r.URL.Query().Get("function"), limit)
		answer(w, out, err)
	})
	mux.HandleFunc("POST /v1/deadletters", func(w http.ResponseWriter, r *http.Request) {
		allow(w, changeTimeout)
		ctx, cancel := context.WithTimeout(r.Context(), replayTimeout)
		defer cancel()
		out, err := l.Replay(ctx, r.URL.Query().Get("function"))
		answer(w, out, err)
	})
	mux.HandleFunc("DELETE /v1/deadletters", func(w http.ResponseWriter, r *http.Request) {
		allow(w, changeTimeout)
		n, err := l.Purge(r.URL.Query().Get("function"))
		answer(w, n, err)
	})
}

// Spools are the spools of functions, by name: those that are to have one.
func (c *Client) Spools(ctx context.Context) (map[string]delivery.SpoolStat, error) {
	var out map[string]delivery.SpoolStat
	err := c.get(ctx, "/v1/spools", &out)
	return out, err
}

// Letters are the dead letters of a function, the oldest first, at most limit of them.
func (c *Client) Letters(ctx context.Context, function string, limit int) (Listed, error) {
	var out Listed
	err := c.letters(ctx, http.MethodGet, fmt.Sprintf("?function=%s&limit=%d", url.QueryEscape(function), limit), &out)
	return out, err
}

// Replay delivers letters of a function to it.
func (c *Client) Replay(ctx context.Context, function string) (delivery.Replayed, error) {
	var out delivery.Replayed
	err := c.letters(ctx, http.MethodPost, "?function="+url.QueryEscape(function), &out)
	return out, err
}

// Purge removes the letters of a function, and says how many there were.
func (c *Client) Purge(ctx context.Context, function string) (int, error) {
	n := 0
	err := c.letters(ctx, http.MethodDelete, "?function="+url.QueryEscape(function), &n)
	return n, err
}

func (c *Client) letters(ctx context.Context, method, query string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, c.changes)
	defer cancel()
	res, err := c.do(ctx, method, "/v1/deadletters"+query, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(res.Body, 1000))
		return fmt.Errorf("%w: %s", ErrRefused, strings.TrimSpace(string(b)))
	}
	if json.NewDecoder(res.Body).Decode(out) != nil {
		return fmt.Errorf("control socket %s: the response is not what a loader of this version sends", c.path)
	}
	return nil
}
