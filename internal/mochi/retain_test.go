package mochi

import (
	"fmt"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"

	mochi "github.com/mochi-mqtt/server/v2"

	"eproxy/internal/broker"
	"eproxy/internal/config"
	"eproxy/internal/request"
	"eproxy/internal/store"
)

// TestRetainedByMany: when several clients publish on a topic at the same time, what is retained in memory is what is on disk.
func TestRetainedByMany(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous, func(o *broker.Options) {
		o.Config.Persistence = config.Persistence{Dir: filepath.Join(t.TempDir(), "d"), Bytes: 1 << 30}
	})
	const topics, publishers = 300, 4
	var wg sync.WaitGroup
	for by := range publishers {
		wg.Go(func() {
			for n := range topics {
				s.front.Retain(&request.Message{Topic: fmt.Sprint("r/", n), Payload: []byte{byte('0' + by)}})
			}
		})
	}
	wg.Wait()
	s.front.keep.store.Sync()
	err := each(s.front.keep.store, store.Retained, func(topic, _ string, m *keptMessage) {
		if pk, _ := s.front.mqtt.Topics.Retained.Get(topic); string(pk.Payload) != string(m.Payload) {
			t.Errorf("%s: %s in memory, %s on disk", topic, pk.Payload, m.Payload)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// TestExpiredTopicsAreForgotten: of the topics of retained messages that have expired nothing is left; a message that has come in the place of one is.
func TestExpiredTopicsAreForgotten(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	s.waitFor(func() bool { return atomic.LoadInt64(&s.front.mqtt.Info.Retained) >= 20 }, "no $SYS topics")
	before := particles(s.front.mqtt.Topics)
	for n := range 10 {
		s.front.Retain(&request.Message{Topic: fmt.Sprint(n, "/x"), Payload: []byte("x"), MessageExpiry: 1})
	}
	s.front.Retain(&request.Message{Topic: "5/x", Payload: []byte("y")})
	s.front.expireTopic("5/x", later(100))
	s.front.tick(later(100))
	if pk, ok := s.front.mqtt.Topics.Retained.Get("5/x"); !ok || string(pk.Payload) != "y" {
		t.Error("the message that replaced another is gone")
	}
	if n := particles(s.front.mqtt.Topics); n != before+1 {
		t.Errorf("%d first levels of topics, %d before and one stays", n, before)
	}
}

// particles is how many first levels of topics the library's index has.
func particles(x *mochi.TopicsIndex) int {
	return reflect.ValueOf(x).Elem().FieldByName("root").Elem().FieldByName("particles").FieldByName("internal").Len()
}
