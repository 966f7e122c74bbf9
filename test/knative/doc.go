// Package knative has what this project tells Knative's autoscaler read by Knative's own
// code: the scraper, the server of pushed Stats, the collector and the decider of
// knative.dev/serving. It is a module of its own: nothing else here needs Knative.
package knative
