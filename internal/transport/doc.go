// Package transport opens what lies between a listener's TCP connections and the MQTT packets in them: a
// PROXY header that names the client, TLS, WebSocket frames, in this order, each where the listener is
// configured so. It knows nothing of MQTT, and holds no connections.
package transport
