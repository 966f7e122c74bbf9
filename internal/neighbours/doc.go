// Package neighbours has what the programs send bear the link addresses that the kernel
// would use.
//
// It owns what the kernel's neighbour tables (ARP, NDP), interfaces and routes said last, and which
// neighbour is the next hop of which connection. It may touch the link addresses in connections' entries,
// by the control program alone; of the kernel's tables it asks for entries and sets none.
package neighbours
