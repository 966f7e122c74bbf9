// Package podgro switches generic receive offload (GRO) on at pods' ends of their
// veth pairs, and off again what it has switched on.
//
// A veth takes XDP redirects while its far end polls (NAPI), which GRO makes it do
// (drivers/net/veth.c); CNI plugins leave it off. The far end is in the pod's
// network namespace, which is entered for it: that needs CAP_SYS_ADMIN. What was
// changed is noted in the pinned map pods_gro before it is changed, so that it is
// restored also after the loader was killed.
//
// Nothing is done in a namespace by its name or by a process's number alone: both
// may be another's a moment later. A namespace is opened, then the kernel is asked
// whether what was opened is the one behind the node's interface, and in it the
// interface must be the one whose other end that is.
package podgro
