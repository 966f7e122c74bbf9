package kube

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"

	"eproxy/internal/config"
	"eproxy/internal/endpoints"
)

// TestKnativeRevisions: the pods of a Knative Service are those of all revisions that get traffic; while
// traffic moves to another one, those before count until it is known which pods that has.
func TestKnativeRevisions(t *testing.T) {
	var began sync.WaitGroup
	var mu sync.Mutex
	revisions := make(map[string]func([]endpoints.Pod)) // that are followed
	ended := make(map[string]<-chan struct{})
	log := &logged{}
	told := "nothing"
	k := &knative{Service: config.Service{Name: "temp", Namespace: "edge", Knative: true}, ctx: t.Context(), revisions: make(map[string]*revision),
		found: func(pods []endpoints.Pod) { told = fmt.Sprint(pods) },
		pods: func(ctx context.Context, revision string, found func([]endpoints.Pod)) {
			mu.Lock()
			defer mu.Unlock()
			revisions[revision], ended[revision] = found, ctx.Done()
			began.Done()
		}}
	k.asking = asking{cluster: New(config.Kubernetes{}, slog.New(slog.NewTextHandler(log, nil)))}
	traffic := func(fresh int, shares ...any) {
		t.Helper()
		s := &knativeService{}
		for i := 0; i < len(shares); i += 2 {
			percent := int64(shares[i+1].(int))
			s.Status.Traffic = append(s.Status.Traffic, traffic{shares[i].(string), &percent})
		}
		s.Status.Traffic = append(s.Status.Traffic, traffic{RevisionName: "tagged"})
		began.Add(fresh)
		if err := k.Update(s); err != nil {
			t.Fatal(err)
		}
		began.Wait()
	}
	has := func(revision string, pods ...string) {
		list := []endpoints.Pod{}
		for _, p := range pods {
			list = append(list, endpoints.Pod{Address: netip.MustParseAddrPort(p)})
		}
		revisions[revision](list)
	}
	tells := func(want string) {
		t.Helper()
		if told != want {
			t.Errorf("told of %s, want %s", told, want)
		}
		told = "nothing"
	}
	traffic(1, "one", 100)
	tells("nothing")
	has("one", "10.0.0.1:8012")
	tells("[10.0.0.1:8012]")
	traffic(1, "one", 0, "two", 100)
	tells("nothing")
	has("one", "10.0.0.1:8012", "10.0.0.3:8012")
	tells("nothing")
	has("two", "10.0.0.2:8012")
	tells("[10.0.0.2:8012]")
	<-ended["one"]
	has("one", "10.0.0.9:8012") // it was under way
	tells("nothing")
	traffic(1, "two", 50, "three", 50)
	has("three")
	tells("[10.0.0.2:8012]")
	traffic(0)
	tells("[]")
	log.has(t, "none of its revisions gets traffic")
	traffic(1, "four", 100)
	has("four", "10.0.0.4:8012")
	tells("[10.0.0.4:8012]")
	if err := k.Delete(nil); err != nil {
		t.Fatal(err)
	}
	tells("[]")
	log.has(t, "there is no Service of Knative of that name")
	if k.Add("x") == nil {
		t.Error("something else is taken for a Service")
	}
}
