// Package parking has the queues of messages that wait in the kernel for a connection to a pod.
//
// It owns which function has which queue, and how much memory there is for such messages. It may touch
// the maps of queues and parked messages, the latter by the control programs alone. Which pods there are it asks
// for; what it takes from a queue it hands on, and forgets.
package parking
