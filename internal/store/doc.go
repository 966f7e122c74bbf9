// Package store keeps on disk what of MQTT outlives the program: sessions, subscriptions, messages that
// wait for clients, retained messages, and which messages of QoS 2 have been received. It is one file of
// bbolt's. What is put is written by one goroutine, together with all that came meanwhile, and each such
// commit is synced (fdatasync) before After tells of it.
package store
