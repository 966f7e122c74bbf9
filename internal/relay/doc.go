// Package relay is a broker.Frontend that stands in front of real brokers. Each client has a connection to one of them
// of its own; what it sends goes there as it is, but for the PUBLISHes that are routed to functions, which never reach
// the broker and are answered here, and what the broker sends goes to the client.
//
// Packet identifiers are the client's alone on its connection, so those of taken messages are not in use at the broker,
// and a copy for subscribers (also_broker) may have its message's: it is acknowledged to the client when both its function and
// the broker have. What the broker answers to packets that the client has not sent (copies, PINGREQ) stays here.
//
// Memory is bounded on both ways: what one end does not read, the other is not read for.
package relay
