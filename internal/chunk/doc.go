// Package chunk has the arrays of the data plane whose memory follows what is
// used: to the programs each is an array of arrays (BPF_MAP_TYPE_ARRAY_OF_MAPS),
// of which only those are there that somebody has needed so far. A chunk stays
// until the programs are unloaded. It knows nothing of what the entries mean.
package chunk
