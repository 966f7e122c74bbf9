package cluster

// NodeName is the only node's.
const NodeName = "node1"
