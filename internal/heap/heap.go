// Package heap says how much garbage a process may have before the runtime looks for it.
package heap

// floorBytes is how much of that there may be beside as much as is in use.
const floorBytes = 8 << 20

// pieceBytes is what it is allocated in: where part of one has been in use before, the runtime clears all of it.
const pieceBytes = 256 << 10

// floor counts as memory in use and is none: the kernel gives memory to a page when something is
// written there, and nothing ever is. It has no pointers, so that it costs the collector nothing either.
var floor [floorBytes / pieceBytes][]byte

// Floor lets floorBytes of garbage gather, however little is in use; once, before anything else is allocated. By itself
// the runtime collects when as much as was in use, or 4 MiB in all, has come since, and a process that needs 2 MiB and
// makes a kilobyte for each message collects a dozen times a second under load: that was a sixth of its time.
// debug.SetGCPercent would let it gather many times what is in use also where that is much.
func Floor() {
	for i := range floor {
		floor[i] = make([]byte, pieceBytes)
	}
}
