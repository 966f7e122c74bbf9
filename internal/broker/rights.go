package broker

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"eproxy/internal/auth"
	"eproxy/internal/config"
	"eproxy/internal/request"
)

// Identity is who a client is, from its CONNECT on.
type Identity struct {
	ClientID string
	Username string
	Remote   netip.AddrPort
	// Account is the account that the client has proven to be; nil for an anonymous
	// client, whatever name it gave.
	Account *auth.Account
	// Until is when the client's certificate is out of date; zero: it has none.
	Until time.Time
}

// expires is when the client must have gone; zero: never.
func (id Identity) expires() time.Time {
	at := id.Until
	if a := id.Account; a != nil {
		if end := a.Until(); !end.IsZero() && (at.IsZero() || end.Before(at)) {
			at = end
		}
	}
	return at
}

// account is the name of the client's account; empty: it is anonymous, whatever
// name it gave.
func (id Identity) account() string {
	if id.Account == nil {
		return ""
	}
	return id.Account.Name
}

// stamp names the client as a message's publisher. The message's interval begins
// here: a will has one, too.
func (id Identity) stamp(m *request.Message) {
	m.ClientID, m.Username = id.ClientID, id.account()
	if m.MessageExpiry > 0 {
		m.Expires = time.Now().Add(time.Duration(m.MessageExpiry) * time.Second)
	}
}

// rights are what a client may do under one configuration. The zero value allows
// nothing.
type rights struct {
	id      Identity
	valid   bool         // the client may be connected at all
	account *config.User // what it may do; nil: nothing is forbidden to it
	next    *config.User // the same under a configuration that is being put in force, where it forbids something
}

// rights finds what a client may do now: nothing, if its account is gone, has
// another password, or has expired, or if nobody may be anonymous any more.
func (r *rules) rights(id Identity) rights {
	if r.denied(id) {
		return rights{}
	}
	u, ok := r.accounts.Rights(id.Account)
	if !ok {
		return rights{}
	}
	return rights{id: id, valid: true, account: u}
}

func (r rights) mayPublish(topic string) bool {
	return r.valid && (r.account == nil || r.account.MayPublish(r.id.ClientID, topic)) &&
		(r.next == nil || r.next.MayPublish(r.id.ClientID, topic))
}

func (r rights) maySubscribe(filter string) bool {
	return r.valid && (r.account == nil || r.account.MaySubscribe(r.id.ClientID, filter)) &&
		(r.next == nil || r.next.MaySubscribe(r.id.ClientID, filter))
}

// within are the rights that both give to the client, whose identity they share.
func (r rights) within(next rights) rights {
	r.valid = r.valid && next.valid
	r.next = next.account
	return r
}

// limits are the filters of what may be published and of what must not be.
type limits struct{ allowed, denied []string }

// publish are the limits of which each must allow a topic, no two of them equal.
func (r rights) publish() (all []limits) {
	for _, u := range []*config.User{r.account, r.next} {
		if u == nil || !u.Limited() {
			continue
		}
		if l := (limits{u.Publish, u.DenyPublish}); len(all) == 0 || !all[0].same(l) {
			all = append(all, l)
		}
	}
	return all
}

// same compares two limits. Nothing that is listed as allowed is not the same as no list.
func (l limits) same(other limits) bool {
	return (l.allowed == nil) == (other.allowed == nil) && slices.Equal(l.allowed, other.allowed) && slices.Equal(l.denied, other.denied)
}

// all says whether the client may publish to every topic.
func (r rights) all() bool { return r.valid && len(r.publish()) == 0 }

// samePublish says whether both allow the same topics to be published to. False of
// two that do costs the kernel path its grants, and nothing else.
func (r rights) samePublish(other rights) bool {
	if r.valid != other.valid || !r.valid {
		return r.valid == other.valid
	}
	return slices.EqualFunc(r.publish(), other.publish(), limits.same)
}

// describe is for people.
func (r rights) describe() string {
	switch {
	case !r.valid:
		return "none"
	case r.all():
		return "all"
	}
	l := r.publish()[0]
	out := l.allowed
	if out == nil {
		out = []string{"#"}
	}
	for _, f := range l.denied {
		out = append(out[:len(out):len(out)], "not "+f)
	}
	return strings.Join(out, " ")
}
