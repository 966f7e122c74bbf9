// Package kubescale scales functions whose pods Kubernetes runs, where nothing else does: it says how many pods a Deployment or
// StatefulSet is to have, by its scale subresource. The first message for a function without pods has one begun at once; from then
// on the rules of Knative's autoscaler say how many there should be, and when there should be none.
package kubescale
