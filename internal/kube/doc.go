// Package kube asks the API server of Kubernetes: which pods a Service has, by its
// EndpointSlices, and which revisions one of Knative has. What it keeps of them is little: the addresses, ports and conditions
// of those Services that the configuration names. An API server that cannot be reached
// changes nothing; it is asked again until it answers.
package kube
