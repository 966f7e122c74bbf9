package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// maxDiff is how many changes a Diff names.
const maxDiff = 50

// Diff says in what another configuration differs from this one, a change each, for a log: what has been added, removed or
// changed, never the values, among which are secrets.
func (old *Config) Diff(next *Config) []string {
	var out []string
	part := func(what string, a, b any) {
		out = append(out, changed(what, reflect.ValueOf(a), reflect.ValueOf(b))...)
	}
	part("", keysAlone(old), keysAlone(next))
	out = append(out, compare("listener", old.Listeners, next.Listeners, func(l Listener) string { return l.Address })...)
	part("auth", authAlone(&old.Auth), authAlone(&next.Auth))
	out = append(out, compare("user", old.Auth.Users, next.Auth.Users, func(u User) string { return u.Username })...)
	out = append(out, compare("function", values(old.Functions), values(next.Functions), func(f Function) string { return f.Name })...)
	out = append(out, compare("route", values(old.Routes), values(next.Routes), func(r Route) string { return r.Topic })...)
	if n := len(out) - maxDiff; n > 0 {
		out = append(out[:maxDiff], fmt.Sprintf("and %d more", n))
	}
	return out
}

// keysAlone is a configuration without what is compared one by one.
func keysAlone(c *Config) Config {
	out := *c
	out.Listeners, out.Functions, out.Routes, out.Auth = nil, nil, nil, Auth{}
	return out
}

func authAlone(a *Auth) Auth {
	out := *a
	out.Users = nil
	return out
}

func values[T any](list []*T) []T {
	out := make([]T, len(list))
	for i, x := range list {
		out[i] = *x
	}
	return out
}

// compare says which things of two lists are new, gone, or changed, and in what.
func compare[T any](kind string, old, next []T, name func(T) string) (out []string) {
	before, now := byName(old, name), byName(next, name)
	for _, n := range slices.Sorted(maps.Keys(before)) {
		if _, ok := now[n]; !ok {
			out = append(out, fmt.Sprintf("%s %q removed", kind, n))
		}
	}
	for _, n := range slices.Sorted(maps.Keys(now)) {
		a, ok := before[n]
		if !ok {
			out = append(out, fmt.Sprintf("%s %q added", kind, n))
			continue
		}
		if keys := differing(reflect.ValueOf(a), reflect.ValueOf(now[n])); len(keys) > 0 {
			out = append(out, fmt.Sprintf("%s %q changed: %s", kind, n, strings.Join(keys, ", ")))
		}
	}
	return out
}

func byName[T any](list []T, name func(T) string) map[string]T {
	out := make(map[string]T, len(list))
	for _, x := range list {
		out[name(x)] = x
	}
	return out
}

// changed names each key of a part that differs.
func changed(what string, a, b reflect.Value) (out []string) {
	for _, key := range differing(a, b) {
		if what != "" {
			key = what + "." + key
		}
		out = append(out, key+" changed")
	}
	return out
}

// differing are the keys, as in the file, of the fields in which two structs differ.
func differing(a, b reflect.Value) (keys []string) {
	for i := range a.NumField() {
		f := a.Type().Field(i)
		if f.IsExported() && !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			if key := keyOf(f.Name); !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// unlike are fields whose keys are not their names with underscores.
var unlike = map[string]string{
	"URL": "url", "TLS": "tls", "XDP": "xdp", "BPFFS": "bpffs", "JWT": "jwt", "HTTP": "http", "PodsGRO": "pods_gro",
	"CloudEvents": "cloudevents", "KEDA": "keda", "Hosts": "pods", "Identities": "pods", "Places": "pods", "Structured": "mode", "Proxies": "proxy_protocol", "Filter": "topic",
}

// keyOf is the key of a field.
func keyOf(field string) string {
	if key, ok := unlike[field]; ok {
		return key
	}
	var b strings.Builder
	for i, r := range field {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteString(strings.ToLower(string(r)))
	}
	return b.String()
}
