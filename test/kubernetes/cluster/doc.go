// Package cluster runs Kubernetes on a host of test/lib/lab: etcd and an API server, as they
// are shipped.
package cluster
