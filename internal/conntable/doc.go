// Package conntable owns the entries of connections in the maps.
//
// Entries arms and frees them, of devices and of slots alike: an entry and its flow
// change together, and each use of an entry has a generation of its own, so that what
// was meant for the former owner misses the next. Devices hands out the entries of
// clients' connections and keeps them until no packet can need translation any more.
//
// It may touch the maps conns, flows, devices, grants and alias_tables, the programs conn_free,
// device_control and alias_control, and of the settings conns_end; nothing of pods, routes or slots.
package conntable
