// Package slot is the life of one connection to a pod that the programs send on.
//
// A slot owns its connection, its entry among the slots and the connections, the requests in it, and its socket's place in the
// socket map: it dials, reads what the programs pass to the socket, takes messages over and closes. It may touch the maps slots,
// requests, pod_socks, and of the entries of connections those of slots. When it is dialled again, or closed for want of work, is its
// pod's decision; what a message comes to that was taken over is takeover's.
package slot
