package delivery

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/pool"
	"eproxy/internal/request"
)

// TestErrorNamesRedirection: a function behind a URL that redirects gets nothing; the log
// line and the dead letter say where the URL should lead.
func TestErrorNamesRedirection(t *testing.T) {
	const to = "https://temp.local/ingest"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		http.Redirect(w, r, to, http.StatusMovedPermanently)
	}))
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "dead")
	cfg, err := config.Parse("f.yaml", []byte("functions:\n  - name: f\n    url: http://temp.local/ingest\n    pods: [\""+
		netip.MustParseAddrPort(srv.Listener.Addr().String()).String()+"\"]\n    retry: {attempts: 2, backoff: 1ms}\n    dead_letter: {file: "+file+"}\n"+
		"routes:\n  - {topic: t, function: f}\n"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p := pool.New(cfg.Functions)
	defer p.Close()
	var log bytes.Buffer
	e := New(cfg, p, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	o := e.Deliver(ctx, cfg.Routes[0], &request.Message{Topic: "t", QoS: 1, Payload: []byte("x")})
	if !o.DeadLettered || o.Status != http.StatusMovedPermanently {
		t.Errorf("outcome %+v", o)
	}
	if want := "301, Location: " + to; !strings.Contains(log.String(), want) {
		t.Errorf("log %q, want %q", log.String(), want)
	}
	line, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var d Letter
	if err := json.Unmarshal(line, &d); err != nil || !strings.Contains(d.Error, to) || d.Status != http.StatusMovedPermanently {
		t.Errorf("dead letter %s, %v", line, err)
	}
}
