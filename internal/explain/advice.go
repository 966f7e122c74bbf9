package explain

// adviceOf says what to do about a reason of the programs (REASONS.md) or of the server
// (METRICS.md), where something can be done.
var adviceOf = map[string]string{
	// why the programs leave a message to userspace
	"not_open":       "clients reach the kernel path by a listener without TLS and WebSockets, through an interface of the configuration, at an address that nothing translates (loader status, docs/KUBERNETES.md)",
	"lost_track":     "nothing: the server names the next packet's beginning when it has read all that came",
	"ring_full":      "raise limits.inflight_per_client, or make the function faster",
	"qos2":           "use QoS 1 where exactly once is not needed",
	"retain":         "leave RETAIN out where nobody needs the last message later",
	"properties":     "leave out properties that the function does not read: Response Topic, Correlation Data",
	"alias":          "nothing, unless it is the rule: then fewer topics than aliases, and topics of routes, up to 128 bytes long",
	"too_large":      "smaller payloads, up to 1,472 bytes, and a shorter client identifier and user name",
	"topic_long":     "topics of up to 128 bytes with levels of up to 60",
	"route_fallback": "a route with one function, without also_broker where persistence or a broker behind has what subscribers get, not ordered to a function with a spool, to a function without batch, cloudevents.mode: structured and from_publisher, and a pod that the kernel path reaches (mapsctl pods says why it does not)",
	"not_granted":    "nothing: it is granted with the first message to this topic, and taken from the next one on",
	"family":         "give the function a pod of the client's address family",
	"no_slot":        "more pods, or a higher concurrency, if it lasts (mapsctl pods)",
	"park_full":      "more pods, a higher concurrency, or a longer queue of the function",
	"headroom":       "nothing: TC takes it",
	"multi":          "nothing: TC takes it",
	"ordered":        "nothing: TC takes it",
	"copies_full":    "fewer messages on also_broker routes than subscribers, and the processors, keep up with; for bursts a larger limits.copies",
	"order_unknown":  "nothing, unless it is the rule: then fewer messages of the client that only the server takes (QoS 2, RETAIN, long ones)",
	"no_xdp_target":  "pods_gro: true, so that the pod's interface takes XDP redirects",
	"pod_window":     "the function reads its connections too slowly",
	"partial":        "nothing, unless it is the rule: then smaller messages, or a larger MTU",
	"packet_id":      "the client violates MQTT: QoS 1 without a packet identifier",
	"topic_name":     "the client violates MQTT: its topic name is not valid",
	"malformed":      "the client sends what is not MQTT",
	// what the server refuses
	"not_authenticated":       "check user name and password against auth.users",
	"password_unusable":       "passwords of at most 72 bytes without NUL",
	"login_busy":              "clients that reconnect at random times; cheaper hashes",
	"not_authorized":          "add the topic to the publish filters of the client's user in auth.users",
	"will_not_authorized":     "add the will's topic to the publish filters of the client's user",
	"will_overload":           "faster functions for wills",
	"response_not_authorized": "add the response topic to the publish filters of the client's user",
	"denied_client":           "take the client out of auth.deny.clients, if it is to connect",
	"packet_too_large":        "raise limits.max_packet_size, or send less",
	"protocol_error":          "the client violates MQTT: see the clause in the log",
}
