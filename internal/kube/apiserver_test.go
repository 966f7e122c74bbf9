package kube

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// apiServer speaks as much of Kubernetes' API as a list and a watch of EndpointSlices
// need. test/kubernetes has the real one.
type apiServer struct {
	t       *testing.T
	address string
	old     bool // it cannot stream lists
	server  *httptest.Server

	mu      sync.Mutex
	changed *sync.Cond
	slices  map[string]*discovery.EndpointSlice
	events  []event
	refuses int // every request, with this status
	asked   []string
	stopped bool
	noWatch bool // is allowed
	expired int  // how often it has forgotten what watches are to go on from
}

// event is a change of an object.
type event struct {
	Type   string                   `json:"type"`
	Object *discovery.EndpointSlice `json:"object"`
}

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	a := &apiServer{t: t, slices: make(map[string]*discovery.EndpointSlice)}
	a.changed = sync.NewCond(&a.mu)
	a.start()
	t.Cleanup(a.stop)
	return a
}

// start serves, at the same address as before.
func (a *apiServer) start() {
	a.t.Helper()
	l, err := net.Listen("tcp", func() string {
		if a.address != "" {
			return a.address
		}
		return "127.0.0.1:0"
	}())
	if err != nil {
		a.t.Fatal(err)
	}
	a.mu.Lock()
	a.stopped = false
	a.mu.Unlock()
	a.address = l.Addr().String()
	a.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(a.serve)}}
	a.server.Start()
}

// stop ends all connections, and accepts no more.
func (a *apiServer) stop() {
	a.mu.Lock()
	a.stopped = true
	a.changed.Broadcast()
	a.mu.Unlock()
	a.server.CloseClientConnections()
	a.server.Close()
}

// kubeconfig is a file that names the server.
func (a *apiServer) kubeconfig() string {
	a.t.Helper()
	path := filepath.Join(a.t.TempDir(), "kubeconfig")
	a.writeKubeconfig(path)
	return path
}

func (a *apiServer) writeKubeconfig(path string) {
	a.t.Helper()
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u, namespace: edge}}],
  clusters: [{name: c, cluster: {server: "http://%s"}}], users: [{name: u, user: {}}]}`, a.address)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		a.t.Error(err)
	}
}

// set makes, changes or, by nil, removes an EndpointSlice.
func (a *apiServer) set(name string, s *discovery.EndpointSlice) {
	a.mu.Lock()
	defer a.mu.Unlock()
	kind := "MODIFIED"
	if a.slices[name] == nil {
		kind = "ADDED"
	}
	if s == nil {
		kind, s = "DELETED", a.slices[name].DeepCopy()
		delete(a.slices, name)
	} else {
		s = s.DeepCopy()
		s.TypeMeta = metav1.TypeMeta{Kind: "EndpointSlice", APIVersion: "discovery.k8s.io/v1"}
		s.Name, s.Namespace = name, "edge"
		a.slices[name] = s
	}
	a.events = append(a.events, event{kind, s})
	s.ResourceVersion = strconv.Itoa(len(a.events))
	a.changed.Broadcast()
}

// expire ends all watches as an API server does that has forgotten the versions which they go on from
// (410 Gone), after a change that none of them is told of.
func (a *apiServer) expire(name string, s *discovery.EndpointSlice) {
	a.mu.Lock()
	a.expired++
	a.mu.Unlock()
	a.set(name, s)
}

// refuse has every request answered with a status; 0: with what is asked for.
func (a *apiServer) refuse(status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refuses = status
}

// queries are the paths and queries of all requests so far.
func (a *apiServer) queries() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Join(a.asked, "\n")
}

func (a *apiServer) serve(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, r.URL.String())
	q := r.URL.Query()
	w.Header().Set("Content-Type", "application/json")
	switch initial := q.Get("sendInitialEvents") == "true"; {
	case a.refuses != 0:
		a.fail(w, a.refuses)
	case r.URL.Path != "/apis/discovery.k8s.io/v1/namespaces/edge/endpointslices":
		a.fail(w, http.StatusNotFound)
	case q.Get("watch") == "":
		a.list(w)
	case a.noWatch:
		a.fail(w, http.StatusForbidden)
	case initial && a.old:
		a.fail(w, http.StatusUnprocessableEntity)
	default:
		a.watch(w, initial, q.Get("resourceVersion"))
	}
}

func (a *apiServer) fail(w http.ResponseWriter, status int) {
	reasons := map[int]metav1.StatusReason{http.StatusForbidden: metav1.StatusReasonForbidden, http.StatusNotFound: metav1.StatusReasonNotFound,
		http.StatusUnprocessableEntity: metav1.StatusReasonInvalid, http.StatusUnauthorized: metav1.StatusReasonUnauthorized}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure,
		Reason: reasons[status], Code: int32(status), Message: "refused: " + http.StatusText(status)})
}

func (a *apiServer) list(w http.ResponseWriter) {
	l := discovery.EndpointSliceList{TypeMeta: metav1.TypeMeta{Kind: "EndpointSliceList", APIVersion: "discovery.k8s.io/v1"}}
	l.ResourceVersion = strconv.Itoa(len(a.events))
	for _, s := range a.slices {
		l.Items = append(l.Items, *s)
	}
	_ = json.NewEncoder(w).Encode(l)
}

// watch sends what changes; with initial, all that there is before, and a bookmark.
func (a *apiServer) watch(w http.ResponseWriter, initial bool, since string) {
	out := json.NewEncoder(w)
	next, _ := strconv.Atoi(since)
	if initial {
		next = len(a.events)
		for _, s := range a.slices {
			_ = out.Encode(event{"ADDED", s})
		}
		end := &discovery.EndpointSlice{TypeMeta: metav1.TypeMeta{Kind: "EndpointSlice", APIVersion: "discovery.k8s.io/v1"}}
		end.ResourceVersion = strconv.Itoa(next)
		end.Annotations = map[string]string{metav1.InitialEventsAnnotationKey: "true"}
		_ = out.Encode(event{"BOOKMARK", end})
	}
	for at := a.expired; !a.stopped; a.changed.Wait() {
		if at != a.expired {
			_ = json.NewEncoder(w).Encode(map[string]any{"type": "ERROR", "object": metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
				Status: metav1.StatusFailure, Reason: metav1.StatusReasonExpired, Code: http.StatusGone, Message: "too old resource version"}})
			return
		}
		for ; next < len(a.events); next++ {
			_ = out.Encode(a.events[next])
		}
		w.(http.Flusher).Flush()
	}
}
