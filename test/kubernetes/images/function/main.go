// Command function is a function that hands every message on to the test before it
// answers: what was answered was had, whatever becomes of its container then.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	collector, name := os.Getenv("COLLECTOR"), os.Getenv("HOSTNAME")+" "+os.Getenv("VERSION")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		again, err := http.NewRequestWithContext(r.Context(), http.MethodPost, collector, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		again.Header.Set("X-Pod", name)
		answer, err := http.DefaultClient.Do(again)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		w.WriteHeader(answer.StatusCode)
	})
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 64
	s := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: time.Minute}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ended := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = s.Shutdown(context.Background())
	})
	if err := s.ListenAndServe(); err != http.ErrServerClosed {
		fmt.Fprintln(os.Stderr, "function:", err)
		os.Exit(1)
	}
	<-ended
}
