package config

import (
	"errors"
	"strings"

	"eproxy/internal/topic"
)

// MayPublish says whether the user may publish to a topic name.
func (u *User) MayPublish(clientID, name string) bool {
	return (u.Publish == nil || matchAny(u.Publish, u.Username, clientID, name)) && !u.denied(u.DenyPublish, clientID, name)
}

// MaySubscribe says whether the user may subscribe to a filter, or receive what is published to a topic. A filter that
// also matches what is denied is none that is denied.
func (u *User) MaySubscribe(clientID, filter string) bool {
	filter = topic.StripShare(filter)
	return (u.Subscribe == nil || coversAny(u.Subscribe, u.Username, clientID, filter)) && !u.denied(u.DenySubscribe, clientID, filter)
}

// Limited says whether anything is forbidden to the user that it might publish.
func (u *User) Limited() bool { return u.Publish != nil || len(u.DenyPublish) > 0 }

// Open says whether everybody may connect and nobody is forbidden anything.
func (a *Auth) Open() bool {
	d := &a.Default
	return a.AllowAnonymous && !a.Logins() && !d.Limited() && d.Subscribe == nil && len(d.DenySubscribe) == 0
}

// Logins says whether there is anybody to log in.
func (a *Auth) Logins() bool {
	return len(a.Users) > 0 || a.PasswordFile != "" || a.JWT != nil || a.HTTP != nil
}

// Files are those beside the configuration that say who may log in.
func (a *Auth) Files() []string {
	var out []string
	if a.PasswordFile != "" {
		out = append(out, a.PasswordFile)
	}
	if a.JWT != nil {
		out = append(out, a.JWT.Files()...)
	}
	return out
}

// User is the account of that name, nil if there is none.
func (a *Auth) User(name string) *User {
	for i := range a.Users {
		if a.Users[i].Username == name {
			return &a.Users[i]
		}
	}
	return nil
}

// errShare is that of a filter with a group. Rights are judged by what is behind it, so that such a filter would mean nothing.
var errShare = errors.New("rights count for every group: leave $share/group/ out")

// ValidateRight checks a filter of what a user may do, or may not.
func ValidateRight(filter string) error {
	if err := topic.ValidateFilter(filter); err != nil {
		return err
	}
	if topic.StripShare(filter) != filter {
		return errShare
	}
	return nil
}

// denied says whether one of the filters matches everything that the wanted one, or a topic name, matches.
func (u *User) denied(filters []string, clientID, wanted string) bool {
	for _, f := range filters {
		if covers(strings.Split(u.widest(f, clientID), "/"), strings.Split(wanted, "/")) {
			return true
		}
	}
	return false
}

// widest is a filter of what is denied, with client id and user name. Where one is empty, or would bring levels or
// wildcards of its own, everything is denied that might be meant.
func (u *User) widest(filter, clientID string) string {
	if out, ok := expand(filter, u.Username, clientID); ok {
		return out
	}
	levels := strings.Split(filter, "/")
	for i, l := range levels {
		if _, ok := expand(l, u.Username, clientID); !ok {
			return strings.Join(append(levels[:i:i], "#"), "/")
		}
	}
	return filter
}

// expand puts client id and user name into a filter. Neither may bring levels
// or wildcards of its own.
func expand(filter, username, clientID string) (string, bool) {
	if !strings.Contains(filter, "%") {
		return filter, true
	}
	ok := true
	r := strings.NewReplacer("%c", clientID, "%u", username) // each once: an id "%u" stays what it is
	for _, x := range []struct{ mark, value string }{{"%c", clientID}, {"%u", username}} {
		ok = ok && (!strings.Contains(filter, x.mark) || x.value != "" && !strings.ContainsAny(x.value, "+#/"))
	}
	return r.Replace(filter), ok
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
