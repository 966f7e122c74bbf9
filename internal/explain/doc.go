// Package explain says which path a client's next message to a topic would take, and why. It
// decides by what the MQTT server and the maps say, in the order in which the programs and the
// server look; it asks nobody itself.
package explain
