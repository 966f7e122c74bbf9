package config

import (
	"strings"

	"eproxy/internal/topic"
)

// MayPublish says whether the user may publish to a topic name.
func (u *User) MayPublish(clientID, name string) bool {
	return u.Publish == nil || matchAny(u.Publish, u.Username, clientID, name)
}

// MaySubscribe says whether the user may subscribe to a filter.
func (u *User) MaySubscribe(clientID, filter string) bool {
	return u.Subscribe == nil || coversAny(u.Subscribe, u.Username, clientID, topic.StripShare(filter))
}

// Open says whether everybody may connect and nobody is forbidden anything.
func (a *Auth) Open() bool { return a.AllowAnonymous && len(a.Users) == 0 }

// User is the account of that name, nil if there is none.
func (a *Auth) User(name string) *User {
	for i := range a.Users {
		if a.Users[i].Username == name {
			return &a.Users[i]
		}
	}
	return nil
}

// expand puts client id and user name into a filter. Neither may bring levels
// or wildcards of its own.
func expand(filter, username, clientID string) (string, bool) {
	for _, x := range []struct{ mark, value string }{{"%c", clientID}, {"%u", username}} {
		if strings.Contains(filter, x.mark) {
			if x.value == "" || strings.ContainsAny(x.value, "+#/") {
				return "", false
			}
			filter = strings.ReplaceAll(filter, x.mark, x.value)
		}
	}
	return filter, true
}

func matchAny(filters []string, username, clientID, name string) bool {
	for _, f := range filters {
		if f, ok := expand(f, username, clientID); ok && topic.Match(f, name) {
			return true
		}
	}
	return false
}

// coversAny says whether one of the filters matches everything that the
// wanted filter matches.
func coversAny(filters []string, username, clientID, wanted string) bool {
	for _, f := range filters {
		if f, ok := expand(f, username, clientID); ok && covers(strings.Split(f, "/"), strings.Split(wanted, "/")) {
			return true
		}
	}
	return false
}

func covers(f, w []string) bool {
	for i, l := range f {
		switch {
		case l == "#":
			return true
		case i >= len(w) || w[i] == "#":
			return false
		case l != "+" && l != w[i]:
			return false
		}
	}
	return len(f) == len(w)
}
