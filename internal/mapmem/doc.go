// Package mapmem has the memory of the data plane's maps.
//
// It owns how large each map is for a configuration, which memory of them is there already, and what of them is mapped into this
// process. It touches no entry: what these hold is their owners'.
package mapmem
