package lab

import (
	"context"
	"net"
	"net/netip"
)

// LwIPV4 is the address of the host that StartLwIP adds to the devices' link.
var LwIPV4 = netip.MustParseAddr("10.88.0.9")

// lwipPort is where the relay accepts connections on the devices' host.
const lwipPort = "1883"

// StartLwIP starts test/lwip's relay, which connects to the node's MQTT server by
// lwIP's TCP, on the devices' host.
func (l *Lab) StartLwIP(ctx context.Context, relay string) (*Process, error) {
	return l.StartServing(Dev, Command(ctx, relay, "eth0", LwIPV4.String(), "255.255.255.0", lwipPort, NodeV4.String(), "1883"))
}

// DialLwIP connects to the node's MQTT server by way of the relay.
func (l *Lab) DialLwIP(ctx context.Context) (net.Conn, error) {
	return l.Dial(ctx, Dev, net.JoinHostPort("127.0.0.1", lwipPort))
}
