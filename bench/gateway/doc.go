// Package gateway has the rivals that eproxy is compared with: MQTT 3.1.1 on one side, pipelined HTTP/1.1 on a few
// connections to each pod on the other, PUBACK when the function has answered 2xx. They know QoS 0 and 1, no
// subscribers, no retries and no rights: what they do not know they end the connection for, so that they have
// less to do than any gateway that would be used.
package gateway
