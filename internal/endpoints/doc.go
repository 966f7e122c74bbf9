// Package endpoints finds out where the pods of functions are: from addresses and
// host names in the configuration, from a file that somebody else writes, from
// DNS, from a Service of Kubernetes. What several sources say of one function is merged. A source that cannot
// find out keeps what it knew last, and says so.
//
// It owns what each source said last. It touches nothing in the kernel, and knows nothing of
// what is done with pods; its users ask for the pods when it says that they
// have changed.
package endpoints
