// Package knative tells Knative's autoscaler how much a function has to do, in the two ways
// that it knows (knative.dev/serving, pkg/autoscaler): as a queue-proxy does, by a Stat that
// it reads from each pod, and as an activator does, by Stats that it is sent.
//
// Both say, for each second, how many requests there were at a time, on average, and how
// many came. A request that both count is told of as "proxied" by the pod, and the
// autoscaler takes it off there.
package knative
