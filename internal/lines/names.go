// Package lines names the lines of ordered routes: the messages of one client on one route, of which one at a time is on its way.
//
// The programs, the queues of what waits and the broker know a line by its name alone, whatever connection its messages come by and whatever
// function its route leads to.
package lines

import "hash/maphash"

// Names makes names of lines. The two halves are keyed hashes of the client and of the route: nobody outside can find clients with
// the same one, whose messages on a route would wait for each other. The programs put names together, too (route.h).
type Names struct{ client, route maphash.Seed }

// New makes names that no other Names makes.
func New() Names { return Names{maphash.MakeSeed(), maphash.MakeSeed()} }

// Client is a client identifier's part of the names of its lines.
func (n Names) Client(id string) uint32 { return uint32(maphash.String(n.client, id)) }

// Route is a filter's part of the names of its lines; never 0.
func (n Names) Route(filter string) uint32 { return max(uint32(maphash.String(n.route, filter)), 1) }

// Line is the name of the line of a client and an ordered route; never 0.
func (n Names) Line(client, filter string) uint64 {
	return uint64(n.Client(client))<<32 | uint64(n.Route(filter))
}
