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
	want(wanted, "MQTTRoute", &r.ObjectMeta, r.Status, verdicts[r.UID].condition("Accepted", r.Generation))
	s.set(wanted, verdicts)
	if len(s.wanted) != 1 {
		t.Fatalf("wanted %v", s.wanted)
	}
	other := verdicts[r.UID].condition("Accepted", 1)
	other.Message = "another's"
	add(1, other)
	if changes != 1 || len(s.wanted) != 1 {
		t.Errorf("after another's condition: %d changes, wanted %v", changes, s.wanted)
	}
	add(1, verdicts[r.UID].condition("Accepted", 1))
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

// TestOverwrittenStatus: nodes that come to different conditions do not write against each other. Who has
// written and is overwritten looks again, and yields while it still wants the same; its own next
// verdict it writes.
func TestOverwrittenStatus(t *testing.T) {
	log := &logged{}
	s := newStatusWriter(New(config.Kubernetes{}, slog.New(slog.NewTextHandler(log, nil))))
	condition := func(reason string, generation int64) metav1.Condition {
		return verdict{reason, "here"}.condition("Accepted", generation)
	}
	status := func(c metav1.Condition) Status {
		c.LastTransitionTime = metav1.Unix(7, 0)
		return Status{Conditions: []metav1.Condition{c}}
	}
	mine := wantedStatus{"MQTTRoute", "edge", "a", condition(conflict, 1)}
	s.written["a"] = written{condition: mine.condition}
	if s.seen("a", status(condition(accepted, 1))) {
		t.Error("what was there before it was written is taken for another node's")
	}
	if s.seen("a", status(mine.condition)) || s.seen("a", Status{}) || s.seen("a", status(condition(accepted, 2))) || s.seen("b", status(condition(accepted, 1))) {
		t.Error("nobody has overwritten it")
	}
	if s.yields("a", mine) {
		t.Error("it yields to nobody")
	}
	if !s.seen("a", status(condition(accepted, 1))) || s.seen("a", status(condition(accepted, 1))) {
		t.Error("that it is overwritten is to be noticed once")
	}
	for range 2 {
		if !s.yields("a", mine) {
			t.Error("it writes against another node")
		}
	}
	log.has(t, "another node has come to another condition")
	if s.yields("a", wantedStatus{"MQTTRoute", "edge", "a", condition(invalid, 1)}) || s.yields("a", wantedStatus{"MQTTRoute", "edge", "a", condition(conflict, 2)}) {
		t.Error("a new verdict is not written")
	}
	s.set(nil, nil)
	if len(s.written) != 0 {
		t.Error("what is gone is remembered")
	}
}
