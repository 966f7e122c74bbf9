// Package keda has what this project tells KEDA asked for by KEDA's own code: the external push scaler of
// github.com/kedacore/keda, as its operator runs it. It is a module of its own: nothing else here needs KEDA.
package keda
