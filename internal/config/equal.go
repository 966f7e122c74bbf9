package config

import "reflect"

// Equal says whether two listeners are the same.
func (l *Listener) Equal(other *Listener) bool { return reflect.DeepEqual(l, other) }
