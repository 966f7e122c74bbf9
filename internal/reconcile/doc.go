// Package reconcile brings the pods that a configuration wants into service, and takes
// the others out of it, one Step at a time.
//
// It owns which pods are in service, how each is reached, which of them the programs do
// not see, and which there was no room for. It touches no map, no interface and no
// connection by itself: what it decides a World does, which in the loader is the data
// plane, and in the tests a model. A Step can be repeated at any time, also after one that
// failed, and does nothing about pods of which nothing has changed. Not safe for concurrent
// use.
package reconcile
