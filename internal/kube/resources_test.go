package kube

import (
	"log/slog"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"eproxy/internal/config"
)

// TestStatusChangesNothing: a status that is written, by whomever, has nothing looked at again; and
// one that another node has written first is not written once more.
func TestStatusChangesNothing(t *testing.T) {
	c := New(config.Kubernetes{}, slog.New(slog.DiscardHandler))
	s := newStatusWriter(c)
	changes := 0
	l := newCollection(c, what{resource: "mqttroutes", namespace: "edge", object: &MQTTRoute{}}, func() { changes++ }, s.seen)
	add := func(generation int64, status ...metav1.Condition) *MQTTRoute {
		r := route("edge", "a", 1, "sensors/x", "", "temp")
		r.Generation, r.Status.Conditions = generation, status
		r.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "m"}}
		if err := l.Add(r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := add(1); changes != 1 || r.ManagedFields != nil {
		t.Errorf("%d changes, kept %+v", changes, r.ObjectMeta)
	}
	_, verdicts := mergeResources(fileOf(t, ownFile), []*MQTTRoute{l.list()[0].(*MQTTRoute)}, nil)
	wanted := make(map[types.UID]wantedStatus)
	r := l.list()[0].(*MQTTRoute)
	want(wanted, "mqttroutes", &r.ObjectMeta, r.Status, verdicts[r.UID])
	s.set(wanted)
	if len(s.wanted) != 1 {
		t.Fatalf("wanted %v", s.wanted)
	}
	other := verdicts[r.UID].condition(1, metav1.Unix(5, 0))
	other.Message = "another's"
	add(1, other)
	if changes != 1 || len(s.wanted) != 1 {
		t.Errorf("after another's condition: %d changes, wanted %v", changes, s.wanted)
	}
	add(1, verdicts[r.UID].condition(1, metav1.Unix(5, 0)))
	if changes != 1 || len(s.wanted) != 0 {
		t.Errorf("after the same condition: %d changes, wanted %v", changes, s.wanted)
	}
	add(2)
	if changes != 2 {
		t.Errorf("a change of what is asked for: %d changes", changes)
	}
	if err := l.Delete(r); err != nil || changes != 3 || len(l.list()) != 0 {
		t.Errorf("%v, %d changes, left %v", err, changes, l.list())
	}
	if l.Add("x") == nil || l.Replace([]any{"x"}, "") == nil {
		t.Error("something else is taken for a resource")
	}
}
